"""The discriminators' side of adversarial training."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from svc.errors import UserErrors
from svc.training.losses.adversarial import (
    discriminator_adversarial_loss,
    generator_adversarial_loss,
)
from svc.training.losses.feature_matching import feature_matching_loss


@dataclass(frozen=True)
class AdversarialOptions:
    """How the discriminators take part.

    Raises:
        UserErrors: a value is out of range.
    """

    start_step: int = 0
    """Generator updates before they join; until then only the spectral losses train."""
    r1_weight: float = 0.0
    """gamma of the R1 gradient penalty; 0 leaves it out."""
    r1_every_steps: int = 16
    """The penalty is computed every so many steps and counts as many times as much."""

    def __post_init__(self) -> None:
        faults = []
        if self.start_step < 0:
            faults.append(f"start_step={self.start_step} must be 0 or more.")
        if not self.r1_weight >= 0:
            faults.append(f"r1_weight={self.r1_weight} must be 0 or more.")
        if self.r1_every_steps < 1:
            faults.append(f"r1_every_steps={self.r1_every_steps} must be 1 or more.")
        if faults:
            raise UserErrors("Options of the discriminators cannot be used:", faults)


@dataclass(frozen=True)
class Verdict:
    """What the discriminators said about a step; their own gradients lie in their parameters."""

    adversarial: Tensor
    """Scalar, the generator's least-squares loss."""
    feature_matching: Tensor
    """Scalar."""
    slope: Tensor
    """[B, 1, T], gradient of the generator's share of the loss at the generated audio."""
    discriminator_loss: Tensor
    """Scalar."""
    accuracy: Tensor
    """Scalar, 0 to 1: share of the scores nearer to the right answer than to the wrong one, with
    every discriminator counting alike."""


def consult(
    judges: Iterable[nn.Module],
    real: Tensor,
    fake: Tensor,
    *,
    generator_loss: Callable[[Tensor, Tensor], Tensor],
    learn: Callable[[Tensor, list[nn.Parameter]], None],
) -> Verdict:
    """Run every discriminator once over each side, for both updates.

    One discriminator after the other, backward passes included, so that the activations of only
    one are held: their losses are independent sums. Nothing is computed twice: the generator's
    gradient stops at the generated audio, and the discriminator's uses the same forward pass.

    Args:
        judges: audio [B, 1, T] -> scores and features.
        real: [B, 1, T] recordings.
        fake: [B, 1, T] generated audio, a leaf that takes a gradient.
        generator_loss: adversarial and feature-matching loss -> what the generator minimises.
        learn: called with each discriminator's loss and parameters; puts the gradient there.
    """
    slope = torch.zeros_like(fake)
    sums = torch.zeros(4, device=fake.device)
    judged = 0
    for judge in judges:
        # The normed weights are the same for both sides, and computing them is not free.
        with parametrize.cached():
            real_scores, real_features = judge(real)
            fake_scores, fake_features = judge(fake)
        adversarial = generator_adversarial_loss([fake_scores])
        matching = feature_matching_loss([real_features], [fake_features])
        (part,) = torch.autograd.grad(
            generator_loss(adversarial, matching), fake, retain_graph=True
        )
        slope += part
        loss = discriminator_adversarial_loss([real_scores], [fake_scores])
        learn(loss, [p for p in judge.parameters() if p.requires_grad])
        right = ((real_scores > 0.5).float().mean() + (fake_scores < 0.5).float().mean()) / 2
        sums += torch.stack([adversarial.detach(), matching.detach(), loss.detach(), right])
        judged += 1
    return Verdict(sums[0], sums[1], slope, sums[2], sums[3] / judged)
