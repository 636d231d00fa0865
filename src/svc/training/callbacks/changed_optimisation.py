"""New settings of optimiser and schedule in a run that goes on."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer


class ChangedOptimisation(Callback):
    """Puts changed settings into the checkpoint that a run goes on from.

    What an optimiser or a schedule was made with is part of its saved state, and would come back
    with that. A changed learning rate or schedule counts as if it had been there from the first
    update: learning rates are those that the new schedule has after as many updates. What the
    optimiser remembers of gradients stays.

    Args:
        options: arguments of the optimiser that are others now.
        schedule: the schedule is another one now.
    """

    def __init__(self, options: Collection[str], schedule: bool) -> None:
        self._options = frozenset(options)
        self._new_rates = schedule or "lr" in self._options

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Lightning calls this before it restores optimisers and schedules; `checkpoint` is changed
        in place."""
        optimizers, schedulers = _made(pl_module)
        states, schedules = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
        new_schedules = []
        for index, (optimizer, state) in enumerate(zip(optimizers, states, strict=True)):
            _set(optimizer, state, self._options - {"lr"})
            if not self._new_rates:
                continue
            schedule = schedules[index] if schedules else {}
            if schedulers:
                updates = _updates(schedule, state, checkpoint["global_step"])
                _step(schedulers[index], updates)
                new_schedules.append(schedulers[index].state_dict())
            _set(optimizer, state, ("lr", "initial_lr"))
        if self._new_rates:
            checkpoint["lr_schedulers"] = new_schedules


def _made(module: LightningModule) -> tuple[list[Optimizer], list[Any]]:
    """Optimisers and schedules as the module makes them, at their first update."""
    made: Any = module.configure_optimizers()
    return made if isinstance(made, tuple) else (made, [])


def _set(optimizer: Optimizer, state: Mapping[str, Any], options: Collection[str]) -> None:
    """Give the groups of a saved state the values that those of `optimizer` have."""
    for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        for name in options:
            if name in group:
                saved[name] = group[name]
            else:
                saved.pop(name, None)


def _updates(schedule: Mapping[str, Any], state: Mapping[str, Any], global_step: int) -> int:
    """How many updates a network has had: each has its own number."""
    if "last_epoch" in schedule:
        return int(schedule["last_epoch"])
    steps = [int(of_weight["step"]) for of_weight in state["state"].values() if "step" in of_weight]
    return max(steps) if steps else global_step


def _step(scheduler: Any, updates: int) -> None:
    """Take a schedule to where it is after so many updates; some only know the way step by step."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*`lr_scheduler.step\(\)` before")
        for _ in range(updates):
            scheduler.step()
