"""What one validation crop came to, for loggers."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class ValidationSample:
    """A recording and what the model made of its features, as files and as tensors."""

    number: int
    """0, 1, …: the same crop at every validation."""
    speaker: str
    """Whose voice it is."""
    target: Tensor
    """[T] float32 in [-1, 1], CPU: the recording."""
    prediction: Tensor
    """[T] likewise."""
    target_wav: Path
    prediction_wav: Path
    mel_png: Path
    """The mels of both, one below the other."""
