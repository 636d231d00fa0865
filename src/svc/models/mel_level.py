"""The level of a mel out of the energy of its frames, so that a network need not predict it."""

from torch import Tensor

from svc.models.conditioner import ENERGY_FLOOR

USUAL_LEVEL_LN = -3.0
"""Natural logarithm of the RMS (-26 dB) at which a mel's level counts as 0."""


def energy_level(energy: Tensor) -> Tensor:
    """Linear RMS [B, N] -> level [B, 1, N] float32 in nepers above -26 dB, to be added to a
    natural-log mel that is relative to it."""
    return (energy.float().clamp_min(ENERGY_FLOOR).log() - USUAL_LEVEL_LN)[:, None]
