"""A mel of any length to a waveform, with a vocoder alone."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from svc.audio.levels import Levels
from svc.audio.spec import AudioSpec
from svc.errors import UserErrors
from svc.inference.chunking import Chunk, join, of_few_lengths, plan_chunks_by_level
from svc.inference.devices import Precision, check_precision
from svc.inference.excitation import render_excitation
from svc.inference.rendering import Progress
from svc.models.vocoder import Vocoder

_DB_PER_NEPER = 20 / math.log(10)
_LEAST_LN, _MOST_LN = -30.0, 12.0
"""What lies beyond is no natural-log mel, not even a badly predicted one."""


@torch.inference_mode()
def render_mel(
    vocoder: Vocoder,
    mel: Tensor,
    f0_hz: Tensor,
    voiced: Tensor,
    spec: AudioSpec,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    max_chunk_s: float = 30.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tensor:
    """Render a mel of any length in memory that its length hardly touches.

    Chunks are cut where the mel is quietest, are rendered with as much context as the vocoder
    reaches over, and share one excitation: both sides of a joint are the same signal, so that the
    result is that of rendering the whole at once.

    Args:
        vocoder: on `device`, in evaluation mode.
        mel: [M, N] natural log.
        f0_hz: [N]; 0 counts as unvoiced.
        voiced: [N] bool.
        spec: framing and mel of the vocoder.
        device: where it computes.
        precision: "bf16" runs the vocoder under autocast.
        max_chunk_s: longest piece that is rendered at once, context included.
        seed: of the excitation. The same input gives the same output.
        progress: told after every chunk.

    Returns:
        [N * hop_samples] float32 on the CPU; empty for no frames.

    Raises:
        UserError: the mel or F0 are not those that the vocoder takes, or not finite, or the device
            does not compute in this precision.
    """
    _check_inputs(vocoder, mel, f0_hz, voiced, spec)
    device = torch.device(device)
    check_precision(precision, device)
    frames, hop = mel.shape[1], spec.hop_samples
    if frames == 0:
        return torch.zeros(0)
    chunks = of_few_lengths(
        plan_chunks_by_level(
            _levels_db(mel),
            spec,
            max_chunk_s=max_chunk_s,
            context_frames=vocoder.receptive_frames,
        )
    )
    f0_hz, voiced = f0_hz.float().to(device), voiced.bool().to(device)
    source = _excitation(vocoder, f0_hz, voiced, seed)
    rendered = _rendered_chunks(vocoder, mel, f0_hz, voiced, source, chunks, precision, progress)
    return join(chunks, rendered, hop)


def _rendered_chunks(
    vocoder: Vocoder,
    mel: Tensor,
    f0_hz: Tensor,
    voiced: Tensor,
    source: Tensor,
    chunks: Sequence[Chunk],
    precision: Precision,
    progress: Progress | None,
) -> Iterator[Tensor]:
    """One after the other, so that only one is in memory: [frames of the chunk * hop] on the CPU.
    The inputs are those of `render_mel`, on the device."""
    device, hop = f0_hz.device, vocoder.hop_samples
    for chunk in chunks:
        span = slice(chunk.render_start_frame, chunk.render_stop_frame)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            audio = vocoder(
                mel[None, :, span].float().to(device),
                f0_hz[None, span],
                voiced[None, span],
                source=source[..., span.start * hop : span.stop * hop].to(device),
            )
        yield audio[0, 0].float().cpu()
        if progress is not None:
            progress(chunk.stop_frame / len(f0_hz))


def _excitation(vocoder: Vocoder, f0_hz: Tensor, voiced: Tensor, seed: int) -> Tensor:
    """[1, 1, T] on the CPU: of the sine source, or the noise that a vocoder without one starts
    from."""
    rng = torch.Generator(f0_hz.device).manual_seed(seed)
    if vocoder.sine_source is not None:
        return render_excitation(vocoder.sine_source, f0_hz, voiced, rng)
    samples = f0_hz.shape[0] * vocoder.hop_samples
    return torch.randn((1, 1, samples), generator=rng, device=f0_hz.device).cpu()


def _levels_db(mel: Tensor) -> Levels:
    """Level of each frame of a mel [M, N], [N], but for a constant."""
    power_ln = torch.cat([(2 * part.float()).logsumexp(0).cpu() for part in mel.split(4096, dim=1)])
    levels: Levels = _DB_PER_NEPER / 2 * power_ln.double().numpy()
    return levels


def _check_inputs(
    vocoder: Vocoder, mel: Tensor, f0_hz: Tensor, voiced: Tensor, spec: AudioSpec
) -> None:
    """All that is wrong with what is to be rendered, in one go."""
    faults = []
    if mel.ndim != 2 or mel.shape[0] != vocoder.mel_bins:
        faults.append(
            f"the mel is {list(mel.shape)} and must be [{vocoder.mel_bins}, frames]: the vocoder "
            f"was made for {vocoder.mel_bins} bins."
        )
    if (spec.mel_bins, spec.hop_samples) != (vocoder.mel_bins, vocoder.hop_samples):
        faults.append(
            f"audio has mel_bins={spec.mel_bins} and hop_samples={spec.hop_samples}, the vocoder "
            f"{vocoder.mel_bins} and {vocoder.hop_samples}; they must be equal."
        )
    frames = mel.shape[-1:]
    if f0_hz.shape != frames or voiced.shape != frames:
        faults.append(
            f"F0 {list(f0_hz.shape)} and voicing {list(voiced.shape)} must have one value for each "
            f"of the mel's {list(frames)} frames; were they made with another hop?"
        )
    for name, values in (("mel", mel), ("F0", f0_hz)):
        broken = int((~torch.isfinite(values)).sum())
        if broken:
            faults.append(f"{broken} values of the {name} are NaN or infinite.")
    if (
        not faults
        and mel.numel()
        and not _LEAST_LN < float(mel.min()) <= float(mel.max()) < _MOST_LN
    ):
        faults.append(
            f"the mel reaches from {float(mel.min()):.4g} to {float(mel.max()):.4g}; natural "
            f"logarithms of amplitudes lie from about -11.5 to 5. Is it in dB or not logarithmic?"
        )
    if faults:
        raise UserErrors("This cannot be rendered:", faults)
