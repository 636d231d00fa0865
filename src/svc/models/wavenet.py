"""Non-causal WaveNet: dilated residual blocks with gated activations and skip connections
(van den Oord et al. 2016; conditioning and scaling as in DiffWave, Kong et al. 2021)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svc.models.inference_weights import InferenceWeights
from svc.models.winograd import is_faster


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
        self.inference_weights = InferenceWeights()
        """To be kept over many runs without a graph."""
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
        if not torch.is_grad_enabled():
            with _Inference(condition, self.inference_weights) as inference:
                return inference.conv(self.condition, inference.enter(condition)).squeeze(2)
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
        if not torch.is_grad_enabled():
            return self._run_without_graph(x, projected, offsets, mask)
        x = torch.relu(self.input(x))
        mask = None if mask is None else mask.to(x.dtype)
        conditions = projected.chunk(self.layers, dim=1)
        skip_sum: Tensor | None = None
        for index, block in enumerate(self.blocks):
            offset = None if offsets is None else offsets[:, index].to(x.dtype)
            x, skip = block(x, conditions[index], offset, mask)
            skip_sum = skip if skip_sum is None else skip_sum + skip
        assert skip_sum is not None
        output: Tensor = self.output(torch.relu(self.skip(skip_sum / math.sqrt(self.layers))))
        return output

    def _run_without_graph(
        self, x: Tensor, projected: Tensor, offsets: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """`run`, in place wherever possible, and on a CPU with channels last in memory: a quarter
        faster than one-dimensional convolutions there, and dilation then costs nothing. Wide
        layers take Winograd's convolution while weights are kept, which saves a third of the
        rest in float32 and a fifth in bfloat16."""
        conditions = projected.unsqueeze(2).chunk(self.layers, dim=1)
        with _Inference(x, self.inference_weights) as inference:
            hidden = inference.conv(self.input, inference.enter(x)).relu_()
            if mask is not None:
                mask = mask.unsqueeze(2).to(hidden.dtype)
            if offsets is not None:
                offsets = offsets[..., None, None].to(hidden.dtype)
            skip_sum = torch.zeros_like(hidden)
            for index, block in enumerate(self.blocks):
                assert isinstance(block, GatedResidualBlock)
                seen = hidden if offsets is None else hidden + offsets[:, index]
                if mask is not None:
                    seen = seen * mask
                y = inference.conv(block.dilated, seen).add_(conditions[index])
                residual, skip = inference.conv(block.output, _gated(y)).chunk(2, dim=1)
                hidden.add_(residual).mul_(math.sqrt(0.5))
                skip_sum.add_(skip)
            skip_sum.mul_(1 / math.sqrt(self.layers))
            output = inference.conv(self.output, inference.conv(self.skip, skip_sum).relu_())
        return output.squeeze(2).contiguous()


class _Inference:
    """Convolutions over [B, C, 1, N] without a graph, in the caller's type or autocast's.

    Args:
        like: a tensor on the device and of the type to compute in.
        weights: kept from one call to the next.
    """

    def __init__(self, like: Tensor, weights: InferenceWeights) -> None:
        device = like.device.type
        cast = torch.is_autocast_enabled(device) and like.dtype != torch.float64
        self._dtype = torch.get_autocast_dtype(device) if cast else like.dtype
        self._weights = weights
        self._on_cpu = device == "cpu"
        self._layout = torch.channels_last if device == "cpu" else torch.contiguous_format
        self._as_it_is = torch.autocast(device, enabled=False)

    def __enter__(self) -> "_Inference":
        self._as_it_is.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._as_it_is.__exit__(*exception)

    def enter(self, x: Tensor) -> Tensor:
        """[B, C, N] -> [B, C, 1, N] of the type and in the layout that is computed in."""
        return x.unsqueeze(2).to(self._dtype).contiguous(memory_format=self._layout)

    def conv(self, conv: nn.Conv1d, x: Tensor) -> Tensor:
        """The convolution of x [B, C, 1, N]."""
        if self._on_cpu and is_faster(conv, x.shape[0], x.shape[-1]):
            winograd = self._weights.winograd(conv, self._dtype)
            if winograd is not None:
                return winograd(x.squeeze(2).mT).mT.unsqueeze(2)
        weight, bias = self._weights.of(conv, self._dtype)
        (kernel,), (dilation,) = conv.kernel_size, conv.dilation
        reach = dilation * (kernel - 1) // 2
        return F.conv2d(x, weight, bias, padding=(0, reach), dilation=(1, dilation))


def _gated(y: Tensor) -> Tensor:
    """sigmoid x tanh of the two halves of [B, 2 C, 1, N]."""
    gate, signal = y.chunk(2, dim=1)
    if y.device.type == "cpu" and y.dtype == torch.float32:
        # tanh(x) = 2 sigmoid(2 x) - 1, because tanh takes thrice as long as sigmoid there. The
        # error is 1e-7; in shorter types it would show.
        activated = torch.sigmoid(signal * 2).mul_(2).sub_(1)
    else:
        activated = torch.tanh(signal)
    return activated.mul_(torch.sigmoid(gate))
