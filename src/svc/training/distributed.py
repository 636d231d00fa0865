"""Data-parallel training of several networks: which gradients are averaged, and when.

PyTorch's DistributedDataParallel averages at the end of one backward pass through one module. An
adversarial step makes a dozen of them, each through a part of the networks, so that it would have
to search for unused parameters in each and would still average too early or twice. Here a network
says when its gradients are complete.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any

import torch
import torch.distributed
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

BUCKET_BYTES = 25 << 20
"""About as many gradients travel at once: enough to use a network well, few enough to begin early.
(PyTorch's own choice.)"""

GIVE_UP_S = 600
"""After so long without a word from another process, it is taken for dead. Whoever started the
processes learns of a death at once; this is for machines that vanish. The first process may write a
large checkpoint meanwhile."""


class GradientAverage:
    """Averages gradients over all processes, in the background between `begin` and `finish`.

    Every process must call `begin` with the same parameters in the same order.
    """

    def __init__(self) -> None:
        self._travelling: list[tuple[Any, Tensor, list[Tensor]]] = []
        self._begun: set[int] = set()

    def begin(self, parameters: Iterable[nn.Parameter]) -> None:
        """Send gradients that will not change any more. Those already sent are left out, and so
        are parameters without a gradient."""
        gradients = []
        for parameter in parameters:
            if parameter.grad is not None and id(parameter) not in self._begun:
                self._begun.add(id(parameter))
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            work = torch.distributed.all_reduce(flat, async_op=True)
            self._travelling.append((work, flat, bucket))

    def finish(self) -> None:
        """Wait for everything that was sent, and put the averages in its place."""
        processes = torch.distributed.get_world_size()
        for work, flat, bucket in self._travelling:
            work.wait()
            flat /= processes
            parts = flat.split([gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        self._travelling.clear()
        self._begun.clear()


def _buckets(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    """Gradients of one type each, of about `BUCKET_BYTES`."""
    buckets: list[list[Tensor]] = []
    size = 0
    for gradient in gradients:
        if not buckets or size >= BUCKET_BYTES or buckets[-1][0].dtype != gradient.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(gradient)
        size += gradient.numel() * gradient.element_size()
    return buckets


class DataParallelStrategy(DDPStrategy):
    """One process per device, started as Lightning's "ddp" starts them, without its wrapper.

    All processes begin with the weights of the first. Modules average their own gradients, with
    `GradientAverage` (`svc.training.network_update` does).

    Args:
        options: of `DDPStrategy`.
    """

    gradients_arrive_averaged = False
    """Whether the averages are in place after the backward pass, so that modules need not care."""

    def __init__(self, **options: Any) -> None:
        super().__init__(timeout=timedelta(seconds=GIVE_UP_S), **options)

    def _setup_model(self, model: nn.Module) -> Any:
        for tensor in chain(model.parameters(), model.buffers()):
            torch.distributed.broadcast(tensor.data, src=0)
        return model

    def _register_ddp_hooks(self) -> None:
        """There is no wrapper to register them with."""
