"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn

from svc.training.sharded_tensors import local_part


class ExponentialMovingAverage(nn.Module):
    """A second copy of a network whose weights trail the trained ones.

    After update number t (from 0) every weight becomes d * average + (1 - d) * trained, with
    d = min(decay, (1 + t) / (10 + t)): early averages forget the random start quickly. Buffers are
    copied. The copy is an ordinary submodule, so it is moved, saved and restored with its owner,
    and called like the network: `average.network(...)`. Its weights never require gradients.

    Weights of the network that require no gradient, such as those of a vocoder that only renders,
    are the very same tensors in both, so that they take no room twice, also in checkpoints. Where
    several processes divide the network among them, each averages its own part.

    Args:
        network: the network being trained; copied here.
        decay: final decay per update, 0 (no averaging) to below 1.

    Raises:
        ValueError: decay is out of range.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        super().__init__()
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay={decay} must be at least 0 and below 1.")
        self.decay = decay
        frozen = [p for p in network.parameters() if not p.requires_grad]
        # What the copy would be looked up in: these are their own copies.
        self.network = copy.deepcopy(network, {id(p): p for p in frozen}).requires_grad_(False)
        self._updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards `network`, which has the structure given at construction."""
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        pairs = zip(self.network.parameters(), network.parameters(), strict=True)
        learnt = [(average, trained) for average, trained in pairs if trained.requires_grad]
        torch._foreach_lerp_(
            [local_part(average) for average, _ in learnt],
            [local_part(trained) for _, trained in learnt],
            1.0 - decay,
        )
        for average, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(buffer)
        self._updates += 1

    def get_extra_state(self) -> dict[str, int]:
        """The number of updates, which decides the decay of the next one."""
        return {"updates": self._updates}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore what `get_extra_state` returned."""
        self._updates = int(state["updates"])
