"""No content at all, for models that do not listen to it."""

import math

import torch
from torch import Tensor

from svc.features.content.base import ContentEncoder, FrameGrid, checked_audio

_STEP_S = 0.02


class NoContent(ContentEncoder):
    """One channel of zeros, 50 frames per second, which is next to nothing on the disk.

    A vocoder is trained from audio, pitch and voicing alone; with this encoder its dataset is
    prepared without one that takes time and weights. A model that converts learns nothing from it.
    """

    def __init__(self) -> None:
        self.channels = 1
        self.grid = FrameGrid(step_s=_STEP_S, first_s=0.0)

    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """audio [T] float32 -> zeros [1, N] float32 with N = T / (0.02 s), rounded up.

        Raises:
            ValueError: audio is not one-dimensional or not finite.
        """
        samples = checked_audio(audio).shape[0]
        return torch.zeros(self.channels, math.ceil(samples / (_STEP_S * sample_rate_hz)))
