"""Weight norm that is kept for training and folded for inference."""

from typing import TypeVar

from torch import nn
from torch.nn.utils import parametrizations, parametrize

Layer = TypeVar("Layer", bound=nn.Module)


def weight_norm(layer: Layer) -> Layer:
    """Re-parametrises `layer.weight` as length times direction over dimension 0 and returns `layer`
    (Salimans & Kingma 2016)."""
    parametrizations.weight_norm(layer, "weight")
    return layer


def fold_weight_norm(module: nn.Module) -> None:
    """Replaces every re-parametrised weight inside `module` by its present value, in place.

    Saves the computation in every forward pass. The names in the state dict change, so load first.
    """
    for layer in module.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")
