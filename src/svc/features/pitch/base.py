"""What a pitch tracker must offer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Pitch:
    """A pitch contour on the mel's frame grid."""

    f0_hz: Tensor
    """[N] float32, interpolated through unvoiced frames; all zeros where nothing is voiced."""
    voiced: Tensor
    """[N] bool."""


class PitchTracker(ABC):
    """Estimates F0. Settings every tracker takes: `f0_min_hz`, `f0_max_hz`."""

    f0_min_hz: float
    f0_max_hz: float

    @abstractmethod
    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        """audio [T] float32 -> contour of N = T // hop_samples frames, frame i centred on
        sample hop_samples * (i + 1/2). Voiced F0 lies within [f0_min_hz, f0_max_hz]."""

    def identity(self) -> dict[str, str]:
        """Facts beyond the settings that change the contour, such as a hash of the weights."""
        return {}
