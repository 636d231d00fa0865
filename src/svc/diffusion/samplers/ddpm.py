"""DDPM: ancestral sampling through the steps of the schedule."""

import math
from typing import Literal

from svc.diffusion.samplers.ancestral import AncestralSampler
from svc.diffusion.samplers.base import check_choice
from svc.diffusion.samplers.grid import WholeSpacing, whole_times
from svc.diffusion.schedule import CLEAN, NoiseSchedule


class Ddpm(AncestralSampler):
    """DDPM (Ho, Jain & Abbeel 2020, algorithm 2): each x is drawn from the posterior of its step.

    Meant for all steps of the schedule. With fewer, the posterior is that of the longer step
    (Nichol & Dhariwal 2021, section 4), and some hundred steps are needed to come near.

    Args:
        steps: evaluations of the network, at most as many as the schedule has steps.
        temperature: factor of all noise.
        clip: predicted data are limited to ±clip, null for no limit; mels are normalised to ±1.
        spacing: "trailing" counts the steps down from the noisiest; "leading" counts up from 0, so
            that the first lies one interval below the top, as in the published DiffSVC code.
        posterior: "respaced", or "single_step" for that of one step of the schedule however long
            the interval is, as in the published DiffSVC code. Where no step is left out they are
            the same.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        steps: int = 1000,
        temperature: float = 1.0,
        clip: float | None = 1.0,
        spacing: WholeSpacing = "trailing",
        posterior: Literal["respaced", "single_step"] = "respaced",
    ) -> None:
        super().__init__(steps, temperature, clip)
        check_choice("spacing", spacing, ("trailing", "leading"))
        check_choice("posterior", posterior, ("respaced", "single_step"))
        self.spacing: WholeSpacing = spacing
        self.posterior = posterior

    @property
    def needs_noise(self) -> bool:
        """See the base class."""
        return self.temperature > 0

    def _spans(self, schedule: NoiseSchedule, start: float) -> list[tuple[float, float]]:
        times = whole_times(schedule, self.steps, start, self.spacing, "ddpm")
        if self.posterior == "single_step":
            return [(t, t - 1) for t in times]
        return list(zip(times, [*times[1:], CLEAN], strict=True))

    def _step_weights(
        self, schedule: NoiseSchedule, t: float, after: float
    ) -> tuple[float, float, float]:
        """The posterior q(x_after | x_t, x_0), equations 6 and 7 of the paper."""
        variance, variance_after = schedule.sigma(t) ** 2, schedule.sigma(after) ** 2
        log_ratio = schedule.log_signal(t) - schedule.log_signal(after)
        beta = -math.expm1(2 * log_ratio)
        return (
            schedule.signal(after) * beta / variance,
            math.exp(log_ratio) * variance_after / variance,
            self.temperature * math.sqrt(beta * variance_after / variance),
        )
