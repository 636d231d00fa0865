"""What DDPM and DDIM share: a step is a sum of predicted data, x and fresh noise."""

from abc import abstractmethod

from torch import Tensor

from svc.diffusion.samplers.base import DiffusionSampler, check_clip, predicted_data
from svc.diffusion.schedule import NoiseSchedule


class AncestralSampler(DiffusionSampler):
    """Goes from each time to the next by data · a + x · b + noise · c.

    Args:
        steps: evaluations of the network.
        temperature: factor of all noise.
        clip: predicted data are limited to ±clip, null for no limit.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(self, steps: int, temperature: float, clip: float | None) -> None:
        super().__init__(steps, temperature)
        check_clip(clip)
        self.clip = clip
        self._levels: list[tuple[float, float]] = []
        self._weights: list[tuple[float, float, float]] = []

    def _plan(self, schedule: NoiseSchedule, start: float) -> list[float]:
        spans = self._spans(schedule, start)
        self._levels = [(schedule.signal(t), schedule.sigma(t)) for t, _ in spans]
        self._weights = [self._step_weights(schedule, t, after) for t, after in spans]
        return [t for t, _ in spans]

    @abstractmethod
    def _spans(self, schedule: NoiseSchedule, start: float) -> list[tuple[float, float]]:
        """For every step the network time where it begins and that where it ends."""

    @abstractmethod
    def _step_weights(
        self, schedule: NoiseSchedule, t: float, after: float
    ) -> tuple[float, float, float]:
        """The weights of data, x and noise for the step from `t` to `after`."""

    def step(
        self, index: int, x: Tensor, prediction: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See the base class."""
        self.check(x, prediction, noise)
        of_data, of_x, of_noise = self._weights[index]
        following = predicted_data(x, prediction, *self._levels[index], self.clip)
        following = following.mul_(of_data).add_(x.float(), alpha=of_x)
        if self.needs_noise and noise is not None:
            following.add_(noise.float(), alpha=of_noise)
        return following
