"""DPM-Solver++(2M): two evaluations looked back on, one per step."""

import math

from svc.diffusion.samplers.base import Spacing
from svc.diffusion.samplers.multistep import MultistepSampler


class DpmSolverPp(MultistepSampler):
    """DPM-Solver++ (Lu et al. 2022b), multistep of second order in its midpoint form (algorithm 2).

    Args:
        steps: evaluations of the network, any number.
        temperature: factor of the initial noise.
        spacing: steps of equal size in lambda ("log_snr"), or in "time".
        clip: predicted data are limited to ±clip (the paper's thresholding), null for no limit.
        lower_order_final: the last step is of first order.
        denoise_to_zero: go on to clean data; False stops at the schedule's lowest noise.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        steps: int = 20,
        temperature: float = 1.0,
        spacing: Spacing = "log_snr",
        clip: float | None = None,
        lower_order_final: bool = True,
        denoise_to_zero: bool = True,
    ) -> None:
        super().__init__(steps, temperature, 2, spacing, clip, lower_order_final, denoise_to_zero)

    def _plan_steps(self, lambdas: list[float], orders: list[int]) -> None:
        self._predictors = []
        for index, order in enumerate(orders):
            signal_after, sigma_after = self._levels[index + 1]
            h = lambdas[index + 1] - lambdas[index]
            of_x = sigma_after / self._levels[index][1]
            of_data = -signal_after * math.expm1(-h)
            if order == 1:
                self._predictors.append([of_x, of_data])
                continue
            slope = h / (2 * (lambdas[index] - lambdas[index - 1]))
            self._predictors.append([of_x, of_data * (1 + slope), -of_data * slope])
