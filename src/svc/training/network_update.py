"""One optimiser step of one of several networks: scale, unscale, clip, check, step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from svc.training.distributed import GradientAverage
from svc.training.sharded_tensors import whole


@dataclass(frozen=True)
class UpdateResult:
    """What became of an update."""

    applied: bool
    """False where the loss or a gradient was NaN or infinite; the weights are then untouched."""
    scale_overflow: bool
    """True where a step was not applied merely because the loss scale, now halved, was too high. A
    new run finds its scale in this way."""
    gradient_norm: Tensor
    """Scalar, Euclidean norm of all gradients before clipping, without the loss scale."""


class NetworkUpdate:
    """Everything that a network needs besides its loss in order to learn.

    Args:
        clip_norm: largest Euclidean norm of all gradients together; larger ones are shrunk to it.
        device_type: "cpu" or "cuda".
        scale_loss: True under fp16, whose small gradients would otherwise vanish.
        average: take the mean of the gradients over the processes of the run before anything is
            done with them.
    """

    def __init__(
        self,
        clip_norm: float,
        device_type: str,
        scale_loss: bool,
        average: bool = False,
    ) -> None:
        self.clip_norm = clip_norm
        self.scaler = GradScaler(device_type, enabled=scale_loss)
        self._average = GradientAverage() if average else None

    def scale(self, loss: Tensor) -> Tensor:
        """`loss` times the present loss scale (1 without loss scaling), to call backward on."""
        return self.scaler.scale(loss)

    def complete(self, parameters: Sequence[nn.Parameter]) -> None:
        """The gradients of some of the parameters will not change any more before `apply`: in a
        distributed run they are on their way while others are still computed."""
        if self._average is not None:
            self._average.begin(parameters)

    def apply(
        self,
        loss: Tensor,
        optimizer: torch.optim.Optimizer,
        step: Callable[[], Any],
        everywhere: Callable[[bool], bool],
    ) -> UpdateResult:
        """Clip the gradients that lie in the parameters, step if all is finite, and clear them.

        Reading whether all is finite waits for the device; this is the only place in a training
        step that does.

        Args:
            loss: scalar, unscaled; only looked at.
            optimizer: of the parameters.
            step: performs the optimiser's step; a parameter because Lightning counts the steps
                that are made through its own wrapper.
            everywhere: whether a decision holds on all processes of a distributed run.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self._average is not None:
            self._average.begin(parameters)
            self._average.finish()
        self.scaler.unscale_(optimizer)
        norm = self._clip(parameters)
        finite = bool(torch.isfinite(norm) & torch.isfinite(loss.detach()))
        applied = everywhere(finite)
        overflow = False
        if applied:
            step()
        elif self.scaler.is_enabled():
            overflow = everywhere(bool(torch.isfinite(loss.detach()))) and self._scale_can_fall()
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return UpdateResult(applied, overflow, norm)

    def _clip(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Shrink the gradients where they are too large; -> their norm before."""
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm = whole(norm)  # of all processes where each holds a part
        nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        return norm

    def _scale_can_fall(self) -> bool:
        return self.scaler.get_scale() > 1.0
