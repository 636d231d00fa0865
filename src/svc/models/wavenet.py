"""Non-causal WaveNet: dilated residual blocks with gated activations and skip connections
(van den Oord et al. 2016; conditioning and scaling as in DiffWave, Kong et al. 2021)."""

import math

import torch
from torch import Tensor, nn


class GatedResidualBlock(nn.Module):
    """One layer: dilated convolution, gate, and a residual and a skip output.

    Args:
        channels: C.
        kernel: of the dilated convolution, odd.
        dilation: of the dilated convolution.
    """

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.dilated = nn.Conv1d(
            channels, 2 * channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2
        )
        self.output = nn.Conv1d(channels, 2 * channels, 1)
        nn.init.kaiming_normal_(self.dilated.weight)
        nn.init.kaiming_normal_(self.output.weight)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        offset: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One layer.

        Args:
            x: [B, C, N].
            condition: [B, 2 C, N], projected.
            offset: [B, C], added to what the convolution sees of x.
            mask: [B, 1, N] of x's type; where it is 0, the convolution sees zeros.

        Returns:
            Next x and skip, both [B, C, N].
        """
        seen = x if offset is None else x + offset[:, :, None]
        if mask is not None:
            seen = seen * mask
        gate, signal = (self.dilated(seen) + condition).chunk(2, dim=1)
        residual, skip = self.output(torch.sigmoid(gate) * torch.tanh(signal)).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2), skip


class WaveNet(nn.Module):
    """A stack of gated residual blocks that all see the condition.

    Args:
        in_channels: channels of the input.
        condition_channels: channels of the condition.
        channels: width of the blocks.
        layers: number of blocks.
        dilation_cycle: dilations are 1, 2, 4, ... over so many layers, then start again; 1 for no
            dilation.
        kernel: of the dilated convolutions, odd.
        out_channels: channels of the output.
    """

    def __init__(
        self,
        in_channels: int,
        condition_channels: int,
        channels: int,
        layers: int,
        dilation_cycle: int = 4,
        kernel: int = 3,
        *,
        out_channels: int,
    ) -> None:
        super().__init__()
        if layers < 1 or dilation_cycle < 1 or kernel % 2 == 0:
            raise ValueError(
                f"layers={layers} and dilation_cycle={dilation_cycle} must be at least 1, "
                f"kernel={kernel} must be odd"
            )
        self.in_channels = in_channels
        self.channels = channels
        self.layers = layers
        self.condition_channels = condition_channels
        self.out_channels = out_channels
        dilations = [2 ** (layer % dilation_cycle) for layer in range(layers)]
        self.receptive_frames = sum((kernel - 1) // 2 * dilation for dilation in dilations)
        self.input = nn.Conv1d(in_channels, channels, 1)
        # One convolution for all layers: one large product instead of many small ones, and a
        # denoiser can compute it once per utterance.
        self.condition = nn.Conv1d(condition_channels, layers * 2 * channels, 1)
        self.blocks = nn.ModuleList(GatedResidualBlock(channels, kernel, d) for d in dilations)
        self.skip = nn.Conv1d(channels, channels, 1)
        self.output = nn.Conv1d(channels, out_channels, 1)
        for conv in (self.input, self.condition, self.skip):
            nn.init.kaiming_normal_(conv.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, in_channels, N], condition [B, condition_channels, N] -> [B, out_channels, N].

        Raises:
            ValueError: a shape is wrong.
        """
        expected = (x.shape[0], self.condition_channels, x.shape[-1])
        if x.ndim != 3 or x.shape[1] != self.in_channels or condition.shape != expected:
            raise ValueError(
                f"x {list(x.shape)} must be [B, {self.in_channels}, N] and the condition "
                f"{list(condition.shape)} must be [B, {self.condition_channels}, N] with the same "
                f"B and N"
            )
        return self.run(x, self.project_condition(condition))

    def project_condition(self, condition: Tensor) -> Tensor:
        """[B, condition_channels, N] -> what every layer sees of it, [B, layers * 2 C, N]."""
        projected: Tensor = self.condition(condition)
        return projected

    def run(
        self,
        x: Tensor,
        projected: Tensor,
        offsets: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The network with a condition that is projected already. Shapes are not checked.

        Args:
            x: [B, in_channels, N].
            projected: [B, layers * 2 C, N], from `project_condition`.
            offsets: [B, layers, C], added to the input of every layer's convolution; the residual
                path does not see it.
            mask: [B, 1, N], 1 for real frames and 0 for padding, which real frames then cannot
                tell from the end of the signal.

        Returns:
            [B, out_channels, N].
        """
        x = torch.relu(self.input(x))
        if mask is not None:
            mask = mask.to(x.dtype)
        conditions = projected.chunk(self.layers, dim=1)
        skip_sum: Tensor | None = None
        for index, block in enumerate(self.blocks):
            offset = None if offsets is None else offsets[:, index]
            x, skip = block(x, conditions[index], offset, mask)
            skip_sum = skip if skip_sum is None else skip_sum + skip
        assert skip_sum is not None
        output: Tensor = self.output(torch.relu(self.skip(skip_sum / math.sqrt(self.layers))))
        return output
