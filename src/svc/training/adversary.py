"""The discriminators' side of adversarial training."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils import parametrize

from svc.errors import UserErrors
from svc.models.discriminators import DiscriminatorOutput


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
class Judgement:
    """One pass of the discriminators over recordings and generated audio, used by both updates."""

    real: DiscriminatorOutput
    fake: DiscriminatorOutput
    real_audio: Tensor
    """[B, 1, T], the recordings that were judged."""


def judge(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Judgement:
    """Run the discriminators once over each side.

    Args:
        discriminator: audio [B, 1, T] -> `DiscriminatorOutput`.
        real: [B, 1, T] recordings.
        fake: [B, 1, T] generated audio.
    """
    # The normed weights are the same for both sides, and computing them is not free.
    with parametrize.cached():
        real_output = discriminator(real)
        fake_output = discriminator(fake)
    return Judgement(real_output, fake_output, real)
