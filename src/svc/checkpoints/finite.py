"""Weights that cannot be used because they hold NaN or infinite values."""

from collections.abc import Mapping

import torch
from torch import Tensor


def non_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of those that hold NaN or infinite values. Each number is looked at once, though a
    tensor may repeat it."""
    return [name for name, weight in weights.items() if not _is_finite(weight)]


def _is_finite(weight: Tensor) -> bool:
    if not weight.is_floating_point():
        return True
    once = tuple(slice(None) if stride else slice(0, 1) for stride in weight.stride())
    return bool(torch.isfinite(weight[once]).all())
