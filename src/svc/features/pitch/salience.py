"""The 360 pitch bins that CREPE and RMVPE share, and how F0 is read off their salience."""

import math

import torch
from torch import Tensor

CENTS_PER_BIN = 20.0
PITCH_BINS = 360
_FIRST_BIN_CENTS = 1997.3794084376191
"""Centre of bin 0 in cents above 10 Hz, which is 31.7 Hz."""
_REACH = 4
"""Bins on either side of the peak that are averaged."""


def hz_of_bin(bins: Tensor) -> Tensor:
    """Fractional bins of any shape -> Hz."""
    return 10.0 * torch.exp2((bins * CENTS_PER_BIN + _FIRST_BIN_CENTS) / 1200.0)


def bin_of_hz(f0_hz: float) -> float:
    """Fractional bin of a frequency."""
    return (1200.0 * math.log2(f0_hz / 10.0) - _FIRST_BIN_CENTS) / CENTS_PER_BIN


HIGHEST_HZ = math.floor(float(hz_of_bin(torch.tensor(PITCH_BINS - 1.0, dtype=torch.float64))))
"""2005; the lowest bin is at 31.7 Hz."""


def bins_in_range(f0_min_hz: float, f0_max_hz: float) -> slice:
    """The bins whose centres are nearest to the range's ends, and those between."""
    first = min(max(round(bin_of_hz(f0_min_hz)), 0), PITCH_BINS - 1)
    last = min(max(round(bin_of_hz(f0_max_hz)), first), PITCH_BINS - 1)
    return slice(first, last + 1)


def hz_near(salience: Tensor, peak: Tensor) -> Tensor:
    """The mean of the nine bins around a peak, weighted by salience.

    Args:
        salience: [N, 360], >= 0.
        peak: [N] integer bins.

    Returns:
        [N] float64 in Hz.
    """
    near = peak[:, None] + torch.arange(-_REACH, _REACH + 1, device=peak.device)
    inside = (near >= 0) & (near < PITCH_BINS)
    weight = salience.double().gather(1, near.clamp(0, PITCH_BINS - 1)) * inside
    # Relative to the peak, where nothing has salience it stays the peak.
    offset = (weight * (near - peak[:, None])).sum(dim=1) / weight.sum(dim=1).clamp_min(1e-12)
    return hz_of_bin(peak + offset)
