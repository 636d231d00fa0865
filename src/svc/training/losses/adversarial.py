"""Least-squares adversarial losses."""

from collections.abc import Sequence

import torch
from torch import Tensor


def generator_adversarial_loss(fake_scores: Sequence[Tensor]) -> Tensor:
    """How far the discriminators are from taking the generated waveform for a recording.

    Sum over the sub-discriminators of the mean of (score - 1)², in fp32 (LSGAN, Mao et al. 2017,
    as in HiFi-GAN, Kong et al. 2020, section 2.4).

    Args:
        fake_scores: scores of generated audio, one tensor of any shape per sub-discriminator.

    Returns:
        Scalar >= 0; 0 when every score is 1.
    """
    return torch.stack([(score.float() - 1).square().mean() for score in fake_scores]).sum()


def discriminator_adversarial_loss(
    real_scores: Sequence[Tensor], fake_scores: Sequence[Tensor]
) -> Tensor:
    """How far the discriminators are from scoring recordings 1 and generated audio 0.

    Sum over the sub-discriminators of mean (real - 1)² + mean fake², in fp32 (same sources as
    `generator_adversarial_loss`).

    Args:
        real_scores: scores of recordings, one tensor of any shape per sub-discriminator.
        fake_scores: scores of generated audio, in the same order.

    Returns:
        Scalar >= 0; 0.5 per sub-discriminator when it answers 0.5 to everything.
    """
    real = torch.stack([(score.float() - 1).square().mean() for score in real_scores]).sum()
    fake = torch.stack([score.float().square().mean() for score in fake_scores]).sum()
    return real + fake
