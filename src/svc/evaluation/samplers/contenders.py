"""Which samplers fit a model, and with how many steps they keep to a number of evaluations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from svc.diffusion.samplers.base import Sampler
from svc.diffusion.schedule import FlowPath, NoiseSchedule
from svc.errors import UserError
from svc.evaluation.task import Candidate, chosen
from svc.inference.singers import check_sampler
from svc.models.mel_singer import MelSinger


@dataclass(frozen=True)
class Contender:
    """A sampler of the model's kind, with any number of steps."""

    name: str
    candidate: Candidate
    own_steps: int
    """That its settings come with."""
    random: bool
    """Whether its steps draw fresh noise, so that the initial noise does not decide the mel."""

    def sampler(self, steps: int) -> Sampler:
        """The sampler with that many steps."""
        built: Sampler = self.candidate.build(steps=steps)
        return built


def fitting(
    candidates: Sequence[Candidate], names: Sequence[str] | None, network: MelSinger
) -> list[Contender]:
    """The samplers that can lead a model from noise to a mel.

    Args:
        candidates: all that there are.
        names: which are wanted; None for all that fit.
        network: the model.

    Raises:
        UserError: a name that no sampler has, or a sampler asked for that is for models of another
            kind.
    """
    contenders = []
    for candidate in chosen(candidates, names, "task.samplers", "sampler"):
        sampler: Sampler = candidate.build()
        if names is None and sampler.path != network.path:
            continue
        check_sampler(network, sampler)
        contenders.append(Contender(candidate.name, candidate, sampler.steps, sampler.needs_noise))
    return contenders


def planned_steps(
    contender: Contender, schedule: NoiseSchedule | FlowPath, budgets: Iterable[int]
) -> list[int]:
    """Numbers of steps that use budgets of evaluations as far as the sampler can, rising.

    A sampler whose steps cost two evaluations, or that has no more steps than the schedule, gives
    fewer numbers than there are budgets.
    """
    steps = {_most_steps(contender, schedule, budget) for budget in budgets}
    return sorted(steps - {0})


def evaluations_of(sampler: Sampler, schedule: NoiseSchedule | FlowPath) -> int:
    """What a whole way from noise costs.

    Raises:
        UserError: the schedule has fewer steps than the sampler needs.
    """
    sampler.set_steps(schedule)
    return len(sampler.times)


def _most_steps(contender: Contender, schedule: NoiseSchedule | FlowPath, budget: int) -> int:
    """Most steps whose evaluations do not exceed a budget; 0 for none. Costs rise with steps."""
    least, most = 0, budget
    middle = most  # for most samplers an evaluation is a step
    while least < most:
        if _affordable(contender.sampler(middle), schedule, budget):
            least = middle
        else:
            most = middle - 1
        middle = (least + most + 1) // 2
    return least


def _affordable(sampler: Sampler, schedule: NoiseSchedule | FlowPath, budget: int) -> bool:
    try:
        return evaluations_of(sampler, schedule) <= budget
    except UserError:  # more steps than the schedule has
        return False
