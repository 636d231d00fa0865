"""The smallest backbone: a perceptron at every frame, as fish-diffusion's HiFiSinger has it."""

import torch.nn.functional as F
from torch import Tensor, nn


class FeatureFuser(nn.Module):
    """Two linear layers, each followed by SiLU, at every frame by itself.

    It stands where a WaveNet may stand, and sees no condition beside its input.

    Args:
        channels: of the input, the hidden layer and the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_channels = self.condition_channels = self.out_channels = channels
        self.receptive_frames = 0
        self.hidden = nn.Conv1d(channels, channels, 1)
        self.output = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, C, N]; `condition`, which a WaveNet would see, is not used -> [B, C, N]."""
        return F.silu(self.output(F.silu(self.hidden(x))))
