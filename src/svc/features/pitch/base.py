"""What a pitch tracker must offer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
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
    device: str = "cpu"
    """Where it computes. Preparation gives a GPU to a single process, and many slices at once."""

    @abstractmethod
    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        """audio [T] float32 -> contour of N = T // hop_samples frames, frame i centred on
        sample hop_samples * (i + 1/2). Voiced F0 lies within [f0_min_hz, f0_max_hz]."""

    def track_batch(
        self, audios: Sequence[Tensor], sample_rate_hz: int, hop_samples: int
    ) -> list[Pitch]:
        """As `track` for each of several pieces; a tracker may take them through together.

        On a CPU what comes out is the same to the bit, on a GPU but for rounding.
        """
        return [self.track(audio, sample_rate_hz, hop_samples) for audio in audios]

    def identity(self) -> dict[str, str]:
        """Facts beyond the settings that change the contour, such as a hash of the weights."""
        return {}
