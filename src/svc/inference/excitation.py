"""One excitation for a whole recording, so that no phase jumps where chunks meet."""

import torch
from torch import Tensor

from svc.models.sine_source import SineSource

_PIECE_VALUES = 2**21
"""Sines times samples that are computed at a time."""


@torch.inference_mode()
def render_excitation(
    source: SineSource,
    f0_hz: Tensor,
    voiced: Tensor,
    rng: torch.Generator,
    piece_frames: int | None = None,
) -> Tensor:
    """The sine source over any length, in pieces that continue each other's phase.

    In one go it would need some 16 bytes per sample and sine; this needs 4 per sample, and about
    40 MB.

    Args:
        source: the decoder's; computes on the device of `f0_hz`.
        f0_hz: [N].
        voiced: [N] bool.
        rng: initial phases, then noise, piece by piece.
        piece_frames: frames computed at a time; None for as many as keep that memory.

    Returns:
        [1, 1, N * hop_samples] float32 on the CPU: up to rounding and the draw of noise, what
        `source` gives for the whole contour.
    """
    frames, hop = f0_hz.shape[0], source.hop_samples
    if piece_frames is None:
        piece_frames = max(1, _PIECE_VALUES // (source.sines * hop))
    f0_hz, voiced = f0_hz[None], voiced[None]
    initial_phase, _ = source.draw(f0_hz[:, :0], rng)
    order = torch.arange(1, source.sines + 1, dtype=torch.float64, device=f0_hz.device)
    cycles = torch.zeros(1, dtype=torch.float64, device=f0_hz.device)
    excitation = torch.empty(1, 1, frames * hop)
    for start in range(0, frames, piece_frames):
        stop = min(frames, start + piece_frames)
        # F0 is interpolated between frames: a neighbour on each side makes the border seamless.
        first, last = max(0, start - 1), min(frames, stop + 1)
        inside = slice((start - first) * hop, (stop - first) * hop)
        f0_samples_hz, voiced_samples = (
            values[:, inside]
            for values in source.upsample(f0_hz[:, first:last], voiced[:, first:last])
        )
        phase = ((initial_phase + cycles * order) % 1.0).float()
        _, noise = source.draw(f0_hz[:, start:stop], rng)
        excitation[:, :, start * hop : stop * hop] = source.excite(
            f0_samples_hz, voiced_samples, phase, noise
        ).cpu()
        cycles = cycles + f0_samples_hz.double().sum() / source.sample_rate_hz
    return excitation
