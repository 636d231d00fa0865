"""How much each part of the generator's loss counts."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from svc.errors import UserErrors


@dataclass(frozen=True)
class LossWeights:
    """Factors of the parts of the generator's loss; 0 leaves a part out of the sum.

    Raises:
        UserErrors: a weight is negative.
    """

    adversarial: float = 1.0
    """Least-squares adversarial loss, summed over the sub-discriminators."""
    feature_matching: float = 2.0
    """Feature matching, summed over sub-discriminators and layers."""
    mel: float = 45.0
    """Multi-resolution log-mel L1 of the waveform."""
    stft: float = 2.5
    """Multi-resolution STFT distance of the waveform."""
    bottleneck: float = 10.0
    """Log-mel L1 at the bottleneck between backbone and decoder."""

    def __post_init__(self) -> None:
        faults = [
            f"loss weight {field.name}={getattr(self, field.name)} must be 0 or more."
            for field in fields(self)
            if not getattr(self, field.name) >= 0
        ]
        if faults:
            raise UserErrors("Loss weights cannot be used:", faults)

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of scalar losses, which bear the names of the fields above."""
        return torch.stack([getattr(self, name) * part for name, part in parts.items()]).sum()
