"""Models that must do worse, so that a good number means something."""

import torch
from torch import Tensor

from svc.features.content.base import ContentEncoder


class ShuffledContent(ContentEncoder):
    """A content encoder whose frames come in random order: what is sung is lost, and nothing else.

    Pitch, energy, speaker and the distribution of the features stay. A conversion that is no worse
    with it does not listen to its content input.

    Args:
        encoder: the encoder to spoil.
        seed: of the order.
    """

    def __init__(self, encoder: ContentEncoder, seed: int = 0) -> None:
        self.encoder = encoder
        self.channels = encoder.channels
        self.grid = encoder.grid
        self.seed = seed

    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """audio [T] -> [C, N], the encoder's frames in another order."""
        features = self.encoder.encode(audio, sample_rate_hz)
        rng = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(features.shape[1], generator=rng)
        return features[:, order.to(features.device)]
