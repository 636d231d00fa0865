"""Conditioning to waveform, chunk by chunk."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.inference.chunking import Chunk
from svc.inference.devices import Precision
from svc.inference.excitation import render_excitation
from svc.inference.output import apply_gate
from svc.inference.refinement import Refiner
from svc.inference.singers import Singer
from svc.models.conditioner import Conditioning

Progress = Callable[[float], None]
"""Told the finished share, 0 to 1."""


def render_chunks(
    singer: Singer,
    conditioning: Conditioning,
    chunks: Sequence[Chunk],
    gate: Tensor,
    spec: AudioSpec,
    *,
    refinement: tuple[Refiner, Conditioning] | None = None,
    device: torch.device,
    precision: Precision,
    seed: int,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Sing one chunk after the other.

    Noise and excitation are drawn once for the whole recording, so that neighbouring chunks agree
    about the frames that they share.

    Args:
        singer: on `device`.
        conditioning: of the whole recording, B = 1, on the CPU.
        chunks: of it, as planned.
        gate: [N] float32, which frames to let through; a chunk without any is not rendered.
        spec: framing.
        refinement: what the mels go through before they are rendered, with its own conditioning.
        device: where networks run.
        precision: of the networks; sources, samplers and spectra stay float32.
        seed: of all noise.
        progress: told after every chunk.

    Yields:
        [frames of the chunk, context included, * hop_samples] on the CPU.
    """
    rng = torch.Generator(device).manual_seed(seed)
    source = singer.vocoder.sine_source
    excitation = None
    if source is not None:
        contour = (conditioning.f0_hz[0].to(device), conditioning.voiced[0].to(device))
        excitation = render_excitation(source, *contour, rng)
    noise = singer.noise(conditioning.frames, rng)
    more_noise = None if refinement is None else refinement[0].noise(conditioning.frames, rng)
    for chunk in chunks:
        span = slice(chunk.render_start_frame, chunk.render_stop_frame)
        samples = slice(span.start * spec.hop_samples, span.stop * spec.hop_samples)
        if not gate[span].any():
            yield torch.zeros(samples.stop - samples.start)
        else:
            heard = conditioning.crop(span.start, span.stop).to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
                mel = singer.mel(heard, None if noise is None else noise[..., span], rng)
                if refinement is not None and more_noise is not None:
                    refiner, whole = refinement
                    refined = whole.crop(span.start, span.stop).to(device)
                    mel = refiner.refine(mel, refined, more_noise[..., span], rng)
                audio = singer.vocoder(
                    mel,
                    heard.f0_hz,
                    heard.voiced,
                    source=None if excitation is None else excitation[..., samples].to(device),
                    rng=rng,
                )
            yield apply_gate(audio[0, 0].float().cpu(), gate[span])
        if progress is not None:
            progress(chunk.stop_frame / chunks[-1].stop_frame)
