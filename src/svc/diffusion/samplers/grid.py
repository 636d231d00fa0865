"""Where along a noise schedule the steps lie."""

from typing import Literal

import numpy as np

from svc.diffusion.samplers.base import Spacing
from svc.diffusion.schedule import NoiseSchedule
from svc.errors import UserError

WholeSpacing = Literal["trailing", "leading"]
"""Whole times counted down from the noisiest, or up from 0."""


def even_times(
    schedule: NoiseSchedule, steps: int, start: float, spacing: Spacing = "time"
) -> list[float]:
    """Network times from `start` down to 0, the least noise that the network knows.

    Args:
        schedule: of the model.
        steps: intervals between the times.
        start: the first time, 0 or more.
        spacing: in what the intervals are equal.

    Returns:
        steps + 1 falling times, fractions among them; just [0] for `start` 0.
    """
    if start == 0:
        return [0.0]
    if spacing == "time":
        return [float(t) for t in np.linspace(start, 0.0, steps + 1)]
    lambdas = np.linspace(schedule.log_snr_half(start), schedule.log_snr_half(0.0), steps + 1)
    inner = [schedule.time_at(float(value)) for value in lambdas[1:-1]]
    return [start, *inner, 0.0]


def whole_times(
    schedule: NoiseSchedule, steps: int, start: float, spacing: WholeSpacing, sampler: str
) -> list[float]:
    """Whole network times of `steps` evaluations, evenly spread and falling.

    Args:
        schedule: of the model.
        steps: evaluations; a shallow start has no more than there are whole times up to it.
        start: the noisiest time allowed.
        spacing: "trailing" begins at `start`, "leading" ends at 0, as the published DiffSVC code
            does.
        sampler: its option, for the message.

    Raises:
        UserError: the schedule has fewer steps.
    """
    if steps > schedule.steps:
        raise UserError(
            f"sampler.steps={steps} is more than sampler={sampler} can take: it stops at whole "
            f"steps of the schedule, which has {schedule.steps}. Choose up to {schedule.steps}."
        )
    count = int(start) + 1
    steps = min(steps, count)
    if spacing == "leading":
        return [float(index * count // steps) for index in reversed(range(steps))]
    return [float(count - 1 - index * count // steps) for index in range(steps)]
