"""UniPC: each evaluation predicts the next step and corrects the one before."""

import math

import numpy as np
from torch import Tensor

from svc.diffusion.samplers.base import Spacing, combined
from svc.diffusion.samplers.multistep import MultistepSampler
from svc.errors import UserError


class UniPc(MultistepSampler):
    """UniPC (Zhao et al. 2023), multistep, data prediction, B(h) = exp(h) - 1 ("bh2").

    Args:
        steps: evaluations of the network, any number.
        temperature: factor of the initial noise.
        order: of the predictor, 1 to 3; the corrector's is one higher.
        spacing: steps of equal size in lambda ("log_snr"), or in "time", as in published DiffSVC.
        clip: predicted data are limited to ±clip, null for no limit.
        lower_order_final: the last steps are of lower order, the very last of the first.
        denoise_to_zero: go on to clean data; False stops at the schedule's lowest noise, as the
            published code does.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        steps: int = 20,
        temperature: float = 1.0,
        order: int = 2,
        spacing: Spacing = "log_snr",
        clip: float | None = None,
        lower_order_final: bool = True,
        denoise_to_zero: bool = True,
    ) -> None:
        if order not in (1, 2, 3):
            raise UserError(f"sampler.order={order} must be 1, 2 or 3.")
        super().__init__(
            steps, temperature, order, spacing, clip, lower_order_final, denoise_to_zero
        )
        self._correctors: list[list[float]] = []
        self._before: Tensor | None = None

    def _plan_steps(self, lambdas: list[float], orders: list[int]) -> None:
        self._predictors, self._correctors = [], []
        for index, order in enumerate(orders):
            h = lambdas[index + 1] - lambdas[index]
            # Where earlier nodes lie, seen from this one in units of the step.
            behind = [(lambdas[index - i] - lambdas[index]) / h for i in range(1, order)]
            of_x = self._levels[index + 1][1] / self._levels[index][1]
            signal_after = self._levels[index + 1][0]
            predictor = _data_weights(h, behind, first_guess=True)
            self._predictors.append([of_x, *(signal_after * w for w in predictor)])
            *corrector, of_newest = _data_weights(h, [*behind, 1.0], first_guess=order == 1)
            self._correctors.append([of_x, *(signal_after * w for w in (of_newest, *corrector))])

    def _corrected(self, index: int, x: Tensor) -> Tensor:
        """See the base class. The step that led here is taken again, from its corrected start, with
        the newest prediction among those that it looks at."""
        if index > 0 and self._before is not None:
            weights = self._correctors[index - 1]
            x = combined(weights, [self._before, *self._data[: len(weights) - 1]])
        self._before = x
        return x


def _data_weights(h: float, ratios: list[float], *, first_guess: bool) -> list[float]:
    """Weights of the data predicted at this node and at those that lie `ratios` steps away, for a
    step of h in lambda, before the factor signal (section 3.1 and appendix A of the paper).

    Args:
        h: length of the step in lambda.
        ratios: positions of the other nodes, -1 for one step back, 1 for the end of the step.
        first_guess: with a single other node use the paper's weight 1/2, which needs no solving
            and keeps the order.
    """
    whole = math.expm1(-h)
    weights = [-whole]
    if not ratios:
        return weights
    if len(ratios) == 1 and first_guess:
        shares = np.array([0.5])
    else:
        # phi_k of -h by their recursion, each times k factorial and over B(h).
        right, phi, factorial = [], whole / -h - 1, 1
        for k in range(1, len(ratios) + 1):
            right.append(phi * factorial / whole)
            factorial *= k + 1
            phi = phi / -h - 1 / factorial
        powers = np.vander(np.array(ratios), increasing=True).T
        shares = np.linalg.solve(powers, np.array(right))
    for ratio, share in zip(ratios, shares, strict=True):
        weights[0] += whole * float(share) / ratio
        weights.append(-whole * float(share) / ratio)
    return weights
