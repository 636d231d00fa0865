"""Feature matching between recordings and generated audio."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def feature_matching_loss(
    real_features: Sequence[Sequence[Tensor]], fake_features: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Mean absolute distance between the discriminators' inner layers on real and fake audio.

    Sum over sub-discriminators and layers, as in HiFi-GAN (Kong et al. 2020, section 2.4). The
    recording is the target: no gradient flows into `real_features`.

    Args:
        real_features: per sub-discriminator the activations of its layers, of any shape.
        fake_features: the same of generated audio, with the same shapes.

    Returns:
        Scalar >= 0, fp32; 0 when the features are equal.
    """
    distances = [
        mean_absolute_distance(fake, real.detach())
        for real_layers, fake_layers in zip(real_features, fake_features, strict=True)
        for real, fake in zip(real_layers, fake_layers, strict=True)
    ]
    return torch.stack(distances).sum()


class _MeanAbsoluteDistance(torch.autograd.Function):
    """`(x - target).abs().mean(dtype=float32)` in three passes over memory for both directions.

    Autograd's own way takes nine, three of them in float32 whatever the inputs are; these tensors
    are the largest of a training step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        difference = x - target
        ctx.save_for_backward(difference)
        total: Tensor = torch.linalg.vector_norm(difference, 1, dtype=torch.float32)
        return total / difference.numel()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        scale = (slopes[0] / difference.numel()).to(difference.dtype)
        return difference.sgn() * scale, None


def mean_absolute_distance(x: Tensor, target: Tensor) -> Tensor:
    """Mean of |x - target| over tensors of the same shape and type.

    Args:
        x: what learns; the slope at 0 is 0.
        target: takes no gradient.

    Returns:
        Scalar, fp32.
    """
    distance: Tensor = _MeanAbsoluteDistance.apply(x, target)  # type: ignore[no-untyped-call]
    return distance
