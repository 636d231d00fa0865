"""Feature matching between recordings and generated audio."""

from collections.abc import Sequence

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
        (real.detach() - fake).abs().mean(dtype=torch.float32)
        for real_layers, fake_layers in zip(real_features, fake_features, strict=True)
        for real, fake in zip(real_layers, fake_layers, strict=True)
    ]
    return torch.stack(distances).sum()
