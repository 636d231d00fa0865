"""PLMS: linear multistep on the noise prediction, the sampler of the first DiffSVC releases."""

from itertools import pairwise

from torch import Tensor

from svc.diffusion.samplers.base import (
    DiffusionSampler,
    check_choice,
    combined,
    mean_of_polynomial,
)
from svc.diffusion.samplers.grid import WholeSpacing, whole_times
from svc.diffusion.schedule import CLEAN, NoiseSchedule

LOOK_BACK = 4


class Plms(DiffusionSampler):
    """PLMS (Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds", section
    3.3), begun by an improved Euler step, so that it costs steps + 1 evaluations.

    Where the steps are of unequal size, the weights are those of Adams and Bashforth for just these
    sizes.

    Args:
        steps: at most as many as the schedule has.
        temperature: factor of the initial noise.
        spacing: "trailing" counts the steps down from the noisiest; "leading" counts up from 0, so
            that the first lies one interval below the top, as in the published DiffSVC code.
        denoise_to_zero: go on to clean data; False stops at the schedule's lowest noise, as the
            published code does.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        steps: int = 50,
        temperature: float = 1.0,
        spacing: WholeSpacing = "trailing",
        denoise_to_zero: bool = True,
    ) -> None:
        super().__init__(steps, temperature)
        check_choice("spacing", spacing, ("trailing", "leading"))
        self.spacing: WholeSpacing = spacing
        self.denoise_to_zero = denoise_to_zero
        self._transfers: list[tuple[float, float]] = []
        self._mixtures: list[list[float]] = []
        self._noises: list[Tensor] = []
        self._before: Tensor | None = None

    def _plan(self, schedule: NoiseSchedule, start: float) -> list[float]:
        times = whole_times(schedule, self.steps, start, self.spacing, "plms")
        times.append(CLEAN if self.denoise_to_zero else 0.0)
        self._transfers, self._mixtures = [], []
        for index, (t, after) in enumerate(pairwise(times)):
            ratio = schedule.signal(after) / schedule.signal(t)
            self._transfers.append((ratio, schedule.sigma(after) - ratio * schedule.sigma(t)))
            known = times[max(0, index + 1 - LOOK_BACK) : index + 1][::-1]
            self._mixtures.append(mean_of_polynomial(known, t, after))
        evaluations = times[:-1]
        if len(evaluations) > 1:
            evaluations.insert(1, evaluations[1])
        return evaluations

    def step(
        self, index: int, x: Tensor, prediction: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See the base class."""
        self.check(x, prediction, noise)
        x, prediction = x.float(), prediction.float()
        if index == 0:
            self._noises, self._before = [prediction], x
            return self._transferred(0, x, prediction)
        if index == 1 and self._before is not None:
            # The improved Euler step: the first one again, with the mean of both its ends.
            x, self._before = self._before, None
            return self._transferred(0, x, (self._noises[0] + prediction) / 2)
        self._noises = [prediction, *self._noises][:LOOK_BACK]
        return self._transferred(index - 1, x, combined(self._mixtures[index - 1], self._noises))

    def _transferred(self, step: int, x: Tensor, noise: Tensor) -> Tensor:
        """Equation 11 of the paper in its equal form: noise and signal take their new levels."""
        of_x, of_noise = self._transfers[step]
        return combined((of_x, of_noise), (x, noise))
