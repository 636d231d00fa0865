"""What DPM-Solver++ and UniPC share: exponential integrators over lambda that look back on the data
predicted at earlier steps."""

from abc import abstractmethod

from torch import Tensor

from svc.diffusion.samplers.base import (
    DiffusionSampler,
    Spacing,
    check_choice,
    check_clip,
    combined,
    mean_of_polynomial,
    predicted_data,
)
from svc.diffusion.samplers.grid import even_times
from svc.diffusion.schedule import NoiseSchedule


class MultistepSampler(DiffusionSampler):
    """Steps from node to node, each by a weighted sum of x and the data predicted so far.

    The published solvers end at the schedule's lowest noise level. What noise that leaves is taken
    away here by continuing the noise predictions as a polynomial of sigma / signal, which costs no
    evaluation and is exact where they are constant.

    Args:
        steps: evaluations of the network, any number.
        temperature: factor of the initial noise.
        order: how many predictions a step uses at most.
        spacing: steps of equal size in lambda ("log_snr"), or in "time".
        clip: predicted data are limited to ±clip, null for no limit.
        lower_order_final: the last steps look back on fewer predictions, the very last on one: at
            few steps the jump to the lowest noise is too long for more.
        denoise_to_zero: go on to clean data; False stops at the schedule's lowest noise.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        steps: int,
        temperature: float,
        order: int,
        spacing: Spacing,
        clip: float | None,
        lower_order_final: bool,
        denoise_to_zero: bool,
    ) -> None:
        super().__init__(steps, temperature)
        check_choice("spacing", spacing, ("time", "log_snr"))
        check_clip(clip)
        self.order = order
        self.spacing: Spacing = spacing
        self.clip = clip
        self.lower_order_final = lower_order_final
        self.denoise_to_zero = denoise_to_zero
        self._levels: list[tuple[float, float]] = []
        self._predictors: list[list[float]] = []
        self._ending: list[float] = []
        self._data: list[Tensor] = []
        self._noises: list[Tensor] = []

    def _plan(self, schedule: NoiseSchedule, start: float) -> list[float]:
        nodes = even_times(schedule, self.steps, start, self.spacing)
        self._levels = [(schedule.signal(t), schedule.sigma(t)) for t in nodes]
        lambdas = [schedule.log_snr_half(t) for t in nodes]
        steps = len(nodes) - 1
        orders = [min(self.order, index + 1) for index in range(steps)]
        if self.lower_order_final:
            orders = [min(order, steps - index) for index, order in enumerate(orders)]
        self._plan_steps(lambdas, orders)
        # Beginning at the lowest noise there is nothing to solve; it can only be taken away.
        times = nodes[:-1] if steps else nodes[: int(self.denoise_to_zero)]
        ratios = [sigma / signal for signal, sigma in self._levels]
        known = ratios[: len(times)][-self.order :][::-1]
        self._ending = mean_of_polynomial(known, ratios[-1], 0.0) if times else []
        return times

    @abstractmethod
    def _plan_steps(self, lambdas: list[float], orders: list[int]) -> None:
        """Fill `_predictors`: for the step from node i to i + 1 of the given order, the weights of
        x and of the data predicted at nodes i, i - 1, …"""

    def _corrected(self, index: int, x: Tensor) -> Tensor:
        """A better x at the node just evaluated, now that its own prediction is known."""
        return x

    def step(
        self, index: int, x: Tensor, prediction: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See the base class."""
        self.check(x, prediction, noise)
        x, prediction = x.float(), prediction.float()
        if index == 0:
            self._data, self._noises = [], []
        data = predicted_data(x, prediction, *self._levels[index], self.clip)
        self._data = [data, *self._data][: self.order + 1]
        self._noises = [prediction, *self._noises][: self.order]
        x = self._corrected(index, x)
        if index < len(self._predictors):
            weights = self._predictors[index]
            x = combined(weights, [x, *self._data[: len(weights) - 1]])
        if index == len(self.times) - 1 and self.denoise_to_zero:
            noise_left = combined(self._ending, self._noises)
            x = predicted_data(x, noise_left, *self._levels[-1], self.clip)
        return x
