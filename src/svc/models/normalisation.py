"""Weight norm that is kept for training and folded for inference."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

Layer = TypeVar("Layer", bound=nn.Module)


class _WeightNorm(nn.Module):
    """PyTorch's own, but for compiled networks: its operation refuses the memory layout that the
    compiler chooses for weights, and cannot be fused with what comes after it."""

    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        """length [O, 1, ...], direction [O, ...] -> weight [O, ...]."""
        if not torch.compiler.is_compiling():
            fused: Tensor = torch._weight_norm(direction, length, 0)
            return fused
        dims = list(range(1, direction.ndim))
        norm: Tensor = torch.linalg.vector_norm(direction, dim=dims, keepdim=True)
        return direction * (length / norm)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """weight -> length, direction."""
        return torch.norm_except_dim(weight, 2, 0), weight


def weight_norm(layer: Layer) -> Layer:
    """Re-parametrises `layer.weight` as length times direction over dimension 0 and returns `layer`
    (Salimans & Kingma 2016)."""
    parametrizations.weight_norm(layer, "weight")
    parametrized: Any = layer.parametrizations
    parametrized.weight[0] = _WeightNorm()
    return layer


def fold_weight_norm(module: nn.Module) -> None:
    """Replaces every re-parametrised weight inside `module` by its present value, in place.

    Saves the computation in every forward pass. The names in the state dict change, so load first.
    """
    for layer in module.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")
