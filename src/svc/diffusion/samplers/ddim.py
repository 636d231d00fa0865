"""DDIM: large steps of first order, with as much fresh noise as is wanted."""

import math
from itertools import pairwise

from svc.diffusion.samplers.ancestral import AncestralSampler
from svc.diffusion.samplers.base import Spacing, check_choice
from svc.diffusion.samplers.grid import even_times
from svc.diffusion.schedule import CLEAN, NoiseSchedule
from svc.errors import UserError


class Ddim(AncestralSampler):
    """DDIM (Song, Meng & Ermon 2021, section 4.1), at times evenly spread over the
    schedule.

    Args:
        steps: evaluations of the network, any number.
        temperature: factor of all noise.
        eta: share of fresh noise in every step: 0 is deterministic, 1 is DDPM with long steps.
        spacing: steps of equal size in lambda ("log_snr"), or in "time".
        clip: predicted data are limited to ±clip, null for no limit.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        steps: int = 50,
        temperature: float = 1.0,
        eta: float = 0.0,
        spacing: Spacing = "log_snr",
        clip: float | None = None,
    ) -> None:
        super().__init__(steps, temperature, clip)
        if not 0 <= eta <= 1:
            raise UserError(f"sampler.eta={eta:g} must lie in 0 … 1.")
        check_choice("spacing", spacing, ("time", "log_snr"))
        self.eta = eta
        self.spacing: Spacing = spacing

    @property
    def needs_noise(self) -> bool:
        """See the base class."""
        return self.temperature > 0 and self.eta > 0

    def _spans(self, schedule: NoiseSchedule, start: float) -> list[tuple[float, float]]:
        times = even_times(schedule, self.steps, start, self.spacing)
        # With one prediction, the step to the lowest noise and that to none are a single one.
        times = [*times[:-1], CLEAN] if len(times) > 1 else [*times, CLEAN]
        return list(pairwise(times))

    def _step_weights(
        self, schedule: NoiseSchedule, t: float, after: float
    ) -> tuple[float, float, float]:
        """Equations 12 and 16 of the paper, the predicted noise written in terms of data and x."""
        sigma, sigma_after = schedule.sigma(t), schedule.sigma(after)
        beta = -math.expm1(2 * (schedule.log_signal(t) - schedule.log_signal(after)))
        fresh = self.eta * sigma_after / sigma * math.sqrt(beta)
        kept = math.sqrt(max(sigma_after**2 - fresh**2, 0.0))
        return (
            schedule.signal(after) - kept * schedule.signal(t) / sigma,
            kept / sigma,
            self.temperature * fresh,
        )
