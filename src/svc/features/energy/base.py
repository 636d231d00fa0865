"""What an energy extractor must offer."""

from abc import ABC, abstractmethod

from torch import Tensor


class EnergyExtractor(ABC):
    """Measures how loud each frame is."""

    @abstractmethod
    def measure(self, audio: Tensor, hop_samples: int) -> Tensor:
        """audio [T] float32 -> linear energy [N] float32 >= 0, N = T // hop_samples, frame i
        belonging to samples [hop_samples * i, hop_samples * (i + 1))."""
