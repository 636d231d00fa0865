"""What a network may be told about F0: cycles within the octave, or the scales of published ones.

`scale`, `log` and `coarse` are the preprocessings of fish-diffusion and diff-svc. They know
nothing of voicing; an F0 of 0 is an unvoiced frame there.
"""

import math
from typing import Literal

import torch
from torch import Tensor

PitchEncoding = Literal["cycles", "scale", "log", "coarse", "none"]
"""`cycles`: `pitch_features`; `scale`: linear between two bounds; `log`: octaves above 1 Hz;
`coarse`: index of a mel-spaced step, for a table; `none`: only a sine source knows the pitch."""

LOWEST_F0_HZ = 20.0
"""F0 is clamped to this before its logarithm; below every tracker's range."""
REFERENCE_F0_HZ = 220.0
F0_CYCLES_PER_OCTAVE = (0.25, 0.5, 1.0, 2.0)

COARSE_STEPS = 254
COARSE_TABLE_ROWS = 300
"""Of the published tables; indices are 1 to 255, and no other row is ever looked up."""


def pitch_features(f0_hz: Tensor, voiced: Tensor) -> Tensor:
    """f0_hz [B, N], voiced [B, N] bool -> [B, 10, N]: the voiced flag, octaves above 220 Hz, and
    their sines and cosines at a few rates, which place a note within its octave."""
    octaves = torch.log2(f0_hz.float().clamp_min(LOWEST_F0_HZ) / REFERENCE_F0_HZ)
    rates = torch.tensor(F0_CYCLES_PER_OCTAVE, dtype=octaves.dtype, device=octaves.device)
    angles = 2 * math.pi * rates[:, None] * octaves[:, None]
    flag = voiced.to(octaves.dtype)
    return torch.cat([torch.stack([flag, octaves], 1), angles.sin(), angles.cos()], dim=1)


def scaled_pitch(f0_hz: Tensor, lowest_hz: float, highest_hz: float) -> Tensor:
    """[B, N] -> [B, 1, N] float32: 0 at the lower bound and below, 1 at the upper and above."""
    return ((f0_hz.float() - lowest_hz) / (highest_hz - lowest_hz)).clamp(0, 1)[:, None]


def log_pitch(f0_hz: Tensor) -> Tensor:
    """[B, N] -> [B, 1, N] float32: octaves above 1 Hz, 0 where F0 is 0."""
    f0_hz = f0_hz.float()
    return torch.where(f0_hz > 0, f0_hz, 1.0).log2()[:, None]


def coarse_pitch(f0_hz: Tensor, lowest_hz: float, highest_hz: float) -> Tensor:
    """[B, N] -> [B, N] int64, 1 to 255: steps of equal width in mels (1127 ln(1 + f / 700))
    between the bounds, and the ends outside of them."""
    lowest, highest = (_mels(torch.tensor(bound)) for bound in (lowest_hz, highest_hz))
    steps = (_mels(f0_hz.float()) - lowest) * COARSE_STEPS / (highest - lowest) + 1
    return (steps.clamp(1, COARSE_STEPS + 1) + 0.5).floor().long()


def _mels(f0_hz: Tensor) -> Tensor:
    return 1127 * (1 + f0_hz / 700).log()
