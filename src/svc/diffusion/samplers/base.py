"""What every sampler offers: set the steps, then step after each evaluation of the network."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from svc.diffusion.schedule import CLEAN, FlowPath, NoiseSchedule
from svc.errors import UserError

Spacing = Literal["time", "log_snr"]
"""Steps of equal size in time, or in lambda = log(signal / sigma)."""


class Sampler(ABC):
    """Solves the way from noise to data in a number of steps.

    `set_steps` computes every coefficient, in Python's float64; `step` then only adds tensors up,
    in float32 whatever dtype comes in. A sampler remembers the evaluations that its method looks
    back on, so one object samples one batch at a time.

    Args:
        steps: how many, from 1. Each costs one evaluation of the network unless the sampler says
            otherwise.
        temperature: factor of the initial noise and of the noise of ancestral steps; 0 gives the
            same result for every seed.

    Raises:
        UserError: a value is out of range.
    """

    path: ClassVar[Literal["diffusion", "flow"]]
    """Gaussian diffusion, where predictions are noise, or rectified flow: there, velocity."""

    def __init__(self, steps: int, temperature: float = 1.0) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise UserError(f"sampler.steps={steps} must be a whole number from 1.")
        if not 0 <= temperature < math.inf:
            raise UserError(f"sampler.temperature={temperature:g} must be 0 or more.")
        self.steps = steps
        self.temperature = temperature
        self._times: list[float] | None = None

    @property
    def times(self) -> list[float]:
        """The time of every evaluation of the network, in order: network times for diffusion, flow
        times for flow.

        Raises:
            ValueError: `set_steps` was not called.
        """
        if self._times is None:
            raise ValueError(f"{type(self).__name__} has no times before set_steps")
        return self._times

    @property
    def needs_noise(self) -> bool:
        """Whether `step` wants fresh noise."""
        return False

    @abstractmethod
    def set_steps(self, schedule: NoiseSchedule | FlowPath, start: float | None = None) -> None:
        """Prepare for one sampling after another along this schedule.

        Args:
            schedule: of the model.
            start: the time at which x is given; None for pure noise. A shallow start of k steps
                begins at network time k - 1, and k = 0, or flow time 1, leaves x as it is.

        Raises:
            UserError: the schedule is of the other kind, `start` lies outside it, or it has fewer
                steps than the sampler needs.
        """

    @abstractmethod
    def step(
        self, index: int, x: Tensor, prediction: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """The next x to evaluate, or after the last evaluation the result.

        Args:
            index: which evaluation this was; 0 forgets all that was before.
            x: [B, …], what the network was given at `times[index]`.
            prediction: like x, what it answered: noise or velocity.
            noise: like x, standard normal, where `needs_noise`.

        Returns:
            Like x, float32.

        Raises:
            ValueError: shapes differ, or noise is missing.
        """

    def check(self, x: Tensor, prediction: Tensor, noise: Tensor | None) -> None:
        """Raise a ValueError unless what came for a step has the right shapes."""
        if prediction.shape != x.shape:
            raise ValueError(f"prediction {list(prediction.shape)} must be like x {list(x.shape)}")
        if self.needs_noise and (noise is None or noise.shape != x.shape):
            got = None if noise is None else list(noise.shape)
            raise ValueError(f"{type(self).__name__} needs noise like x {list(x.shape)}; got {got}")


class DiffusionSampler(Sampler):
    """A sampler of Gaussian diffusion, fed with noise predictions."""

    path = "diffusion"

    def set_steps(self, schedule: NoiseSchedule | FlowPath, start: float | None = None) -> None:
        """See the base class."""
        if not isinstance(schedule, NoiseSchedule):
            raise UserError(
                f"{type(self).__name__} samples diffusion models, and this model is a rectified "
                "flow; choose sampler=euler or sampler=heun."
            )
        noisiest = schedule.steps - 1
        start = float(noisiest if start is None else start)
        if start != CLEAN and not 0 <= start <= noisiest:
            raise UserError(
                f"A shallow start of {start + 1:g} steps lies outside this model's schedule; "
                f"choose 0 to {schedule.steps}."
            )
        self._times = [] if start == CLEAN else self._plan(schedule, start)

    @abstractmethod
    def _plan(self, schedule: NoiseSchedule, start: float) -> list[float]:
        """Compute the coefficients from network time `start` >= 0 on; returns `times`."""


class FlowSampler(Sampler):
    """A sampler of rectified flow, fed with velocities."""

    path = "flow"

    def set_steps(self, schedule: NoiseSchedule | FlowPath, start: float | None = None) -> None:
        """See the base class."""
        if not isinstance(schedule, FlowPath):
            raise UserError(
                f"{type(self).__name__} samples rectified flows, and this model is a diffusion; "
                "choose sampler=unipc or another of the diffusion samplers."
            )
        start = 0.0 if start is None else float(start)
        if not 0 <= start <= 1:
            raise UserError(f"A flow starts at a time in 0 … 1; got {start:g}.")
        self._times = [] if start == 1 else self._plan(start)

    @abstractmethod
    def _plan(self, start: float) -> list[float]:
        """Compute the step sizes from flow time `start` < 1 on; returns `times`."""


def predicted_data(
    x: Tensor, prediction: Tensor, signal: float, sigma: float, clip: float | None
) -> Tensor:
    """Clean data, float32, that a noise prediction at x amounts to, limited to ±clip."""
    data = (x.float() - prediction.float() * sigma) / signal
    return data if clip is None else data.clamp(-clip, clip)


def combined(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    """The weighted sum of float32 tensors, one or more."""
    total = tensors[0] * weights[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def mean_of_polynomial(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """Weights of the values at one to four `nodes` whose sum is the mean between `start` and `end`
    of the polynomial through them. From equal steps they are those of Adams and Bashforth."""
    middle, half = (start + end) / 2, (end - start) / 2
    # Two points of Gauss and Legendre: exact up to the third degree.
    points = [middle - half / math.sqrt(3), middle + half / math.sqrt(3)]
    return [
        sum(
            math.prod((at - other) / (node - other) for j, other in enumerate(nodes) if j != i)
            for at in points
        )
        / 2
        for i, node in enumerate(nodes)
    ]


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise a UserError unless the setting `sampler.name` has one of its values."""
    if value not in choices:
        raise UserError(f"sampler.{name}={value} is unknown; choose one of {', '.join(choices)}.")


def check_clip(clip: float | None) -> None:
    """Raise a UserError unless `sampler.clip` is null or positive."""
    if clip is not None and not clip > 0:
        raise UserError(f"sampler.clip={clip:g} must be above 0, or null for no limit.")
