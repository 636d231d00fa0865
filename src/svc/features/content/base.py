"""What a content encoder must offer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FrameGrid:
    """Where the frames of a feature lie in time: frame i is centred at first_s + i * step_s."""

    step_s: float
    """Seconds between frame centres."""
    first_s: float
    """Centre of frame 0 in seconds."""


class ContentEncoder(ABC):
    """Turns audio into features that hold what is sung but, as far as possible, not by whom.

    Features are stored on the encoder's own frame grid and interpolated to the mel's grid when
    they are read (`svc.features.interpolation`).
    """

    channels: int
    """C, the width of the features."""
    grid: FrameGrid
    device: str = "cpu"
    """Where it computes. Preparation gives a GPU to a single process, and many slices at once."""

    @abstractmethod
    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """audio [T] float32 in [-1, 1] at `sample_rate_hz` -> features [C, N] float32, finite.

        T may be anything from 0; N is at least 1 where T is at least one mel hop.
        """

    def encode_batch(self, audios: Sequence[Tensor], sample_rate_hz: int) -> list[Tensor]:
        """As `encode` for each of several pieces; an encoder may take them through together.

        On a CPU what comes out is the same to the bit, on a GPU but for rounding.
        """
        return [self.encode(audio, sample_rate_hz) for audio in audios]

    def identity(self) -> dict[str, str]:
        """Facts beyond the settings that change the features, such as a hash of the weights."""
        return {}


def checked_audio(audio: Tensor) -> Tensor:
    """[T] float32 on the CPU, apart from any graph.

    Raises:
        ValueError: audio is not one-dimensional, or holds NaN or infinity.
    """
    if audio.dim() != 1:
        raise ValueError(f"expected audio [T], got shape {tuple(audio.shape)}")
    audio = audio.detach().cpu().float()
    if not bool(torch.isfinite(audio).all()):
        raise ValueError("the audio holds samples that are not finite")
    return audio
