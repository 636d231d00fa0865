"""Euler steps along a rectified flow."""

from torch import Tensor

from svc.diffusion.samplers.base import FlowSampler


class Euler(FlowSampler):
    """Euler's method: x moves on by velocity · step, all steps of equal size (Liu, Gong & Liu 2023,
    section 2). Exact with one step where the flow is straight.

    Args:
        steps: evaluations of the network, any number.
        temperature: factor of the initial noise.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(self, steps: int = 20, temperature: float = 1.0) -> None:
        super().__init__(steps, temperature)
        self._size = 0.0

    def _plan(self, start: float) -> list[float]:
        self._size = (1 - start) / self.steps
        return [start + index * self._size for index in range(self.steps)]

    def step(
        self, index: int, x: Tensor, prediction: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See the base class."""
        self.check(x, prediction, noise)
        return x.float() + prediction.float() * self._size
