"""The published WaveNet denoiser written out as functions of its weights: a second opinion."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def step_embedding(t: Tensor, channels: int) -> Tensor:
    """Times [B] -> [B, C]."""
    half = channels // 2
    rates = torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
    angles = t.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def reference_denoiser(
    weights: Weights, condition: Tensor, dilation_cycle: int | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """The noise prediction for x [B, M, N] and t [B], given the condition [B, C, N]."""

    def convolution(name: str, x: Tensor, **options: int) -> Tensor:
        return F.conv1d(x, weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"], **options)

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.linear.weight"], weights.get(f"{name}.linear.bias"))

    layers = len({name.split(".")[1] for name in weights if name.startswith("residual_layers")})

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        hidden = convolution("input_projection", x).relu()
        step = linear("mlp.2", F.mish(linear("mlp.0", step_embedding(t, hidden.shape[1]))))
        skips = torch.zeros_like(hidden)
        for layer in range(layers):
            name = f"residual_layers.{layer}"
            y = hidden + linear(f"{name}.diffusion_projection", step)[..., None]
            dilation = 2 ** (layer % dilation_cycle) if dilation_cycle else 1
            y = convolution(f"{name}.conv_layer", y, padding=dilation, dilation=dilation)
            y = y + convolution(f"{name}.conditioner_projection", condition)
            gate, filtered = y.chunk(2, dim=1)
            y = convolution(f"{name}.output_projection", gate.sigmoid() * filtered.tanh())
            residual, skip = y.chunk(2, dim=1)
            hidden = (hidden + residual) / math.sqrt(2)
            skips = skips + skip
        y = convolution("skip_projection", skips / math.sqrt(layers)).relu()
        return convolution("output_projection", y)

    return denoise
