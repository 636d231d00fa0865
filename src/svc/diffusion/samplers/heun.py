"""Heun steps along a rectified flow."""

from torch import Tensor

from svc.diffusion.samplers.base import FlowSampler


class Heun(FlowSampler):
    """Heun's method of second order: an Euler step, repeated with the mean of the velocities at
    both its ends (Karras et al. 2022, algorithm 1, for the time of a flow).

    The last step is Euler's, so that the network is never asked about clean data. n steps cost
    2 n - 1 evaluations.

    Args:
        steps: any number.
        temperature: factor of the initial noise.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(self, steps: int = 10, temperature: float = 1.0) -> None:
        super().__init__(steps, temperature)
        self._size = 0.0
        self._before: tuple[Tensor, Tensor] | None = None

    def _plan(self, start: float) -> list[float]:
        self._size = (1 - start) / self.steps
        begins = [start + index * self._size for index in range(self.steps)]
        return [begins[0], *(t for t in begins[1:] for _ in range(2))]

    def step(
        self, index: int, x: Tensor, prediction: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See the base class."""
        self.check(x, prediction, noise)
        x, prediction = x.float(), prediction.float()
        if index % 2 == 0:
            self._before = (x, prediction)
            return x + prediction * self._size
        if self._before is None:
            raise ValueError("Heun's steps come in order: evaluation 0 first")
        x, velocity = self._before
        return x + (velocity + prediction) * (self._size / 2)
