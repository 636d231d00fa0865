"""Before any time is spent: will a training step fit into memory, and how large may a batch be?"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning as L
import torch

from svc.checkpoints.training_checkpoint import read_checkpoint
from svc.data.data_module import SvcDataModule
from svc.device_memory import budget_bytes
from svc.errors import UserError, UserErrors
from svc.memory import in_gib
from svc.training.batch_size import (
    FIRST_SIZE,
    Measurement,
    MemoryLine,
    Search,
    check_sizes,
    sensible,
)
from svc.training.distributed import DataParallelStrategy
from svc.training.memory_probe import MemoryProbe
from svc.training.network_module import NetworkModule
from svc.training.out_of_memory import SMALLER_STEPS

_logger = logging.getLogger(__name__)

_ON_A_CPU = 4
"""Largest batch that a check measures there, where a step takes seconds."""

_BOUNDLESS = 10**6


@dataclass(frozen=True)
class PreflightOptions:
    """What is looked at before training begins.

    Raises:
        UserErrors: a value is out of range.
    """

    check: Literal["auto", True, False] = "auto"
    """Measure two small steps and tell what a step will take; "auto" does so on GPUs, where that
    takes seconds."""
    margin: float = 0.1
    """Share of the memory that data.batch_size=auto leaves free."""
    max_batch_size: int = 128
    """Largest that data.batch_size=auto chooses."""

    def __post_init__(self) -> None:
        faults = []
        if self.check not in ("auto", True, False):
            faults.append(f"preflight.check={self.check!r} must be auto, true or false.")
        if not 0 <= self.margin < 1:
            faults.append(f"preflight.margin={self.margin} must be at least 0 and below 1.")
        if self.max_batch_size < 1:
            faults.append(f"preflight.max_batch_size={self.max_batch_size} must be at least 1.")
        if faults:
            raise UserErrors("The preflight cannot be made:", faults)


def preflight(
    trainer: L.Trainer,
    module: L.LightningModule,
    data: SvcDataModule,
    options: PreflightOptions,
    resume_from: Path | None = None,
) -> None:
    """Decide `data.batch_size=auto`, and refuse a batch that will not fit.

    Several processes agree: on the smallest of what fits each device, and to refuse where one of
    them must. What is trained afterwards is not touched by it.

    Args:
        trainer: of the run, which has not begun.
        module: to train.
        data: put where it is to be; its batch size is decided.
        options: what to look at.
        resume_from: checkpoint that is continued; a batch size that was chosen then stays.

    Raises:
        UserError: the batch does not fit, or a batch size cannot be found here; or see
            `SvcDataModule.prepare_for`.
    """
    trainer.strategy.setup_environment()  # as fit will do once more: devices, and who is there
    device = trainer.strategy.root_device
    data.prepare_for(device, trainer.num_devices)
    if data.batch_size_is_open and resume_from is not None:
        data.choose_batch_size(_batch_size_in(resume_from))
    wanted = options.check is True or (options.check == "auto" and device.type == "cuda")
    if not data.batch_size_is_open and not wanted:
        return
    problem = _not_measurable(trainer, module)
    if problem is not None:
        if data.batch_size_is_open:
            raise UserError(f"data.batch_size=auto: {problem}. Give a number.")
        _logger.info("Memory is not looked at beforehand: %s.", problem)
        return
    assert isinstance(module, NetworkModule)
    probe = MemoryProbe(module, data, trainer)
    if data.batch_size_is_open:
        _choose(probe, trainer, data, options)
        return
    try:
        _check(probe, trainer, data, options)
    except UserError:
        raise
    except Exception:  # what looks after a training must not be what stops it
        if trainer.world_size > 1:  # others may be waiting for this process
            raise
        _logger.warning("Memory could not be looked at beforehand.", exc_info=True)


def _not_measurable(trainer: L.Trainer, module: L.LightningModule) -> str | None:
    """Why steps cannot be measured, or None."""
    device = trainer.strategy.root_device
    if not isinstance(module, NetworkModule):
        return f"{type(module).__name__} is not one of the toolkit's own modules"
    if isinstance(trainer.strategy, DataParallelStrategy) and (
        trainer.strategy.gradients_arrive_averaged
    ):
        return "processes that share the weights among them cannot try a step one by one"
    if device.type not in ("cpu", "cuda") or budget_bytes(device) is None:
        return f"nothing here tells how much memory {device.type} has left"
    return None


@dataclass(frozen=True)
class FoundBatchSize:
    """What a search came to, on one device."""

    batch_size: int
    """0 where not even one crop fits."""
    measured: Sequence[Measurement]
    budget_bytes: int
    """That this process can have of the device's memory."""


def find_batch_size(
    probe: MemoryProbe, trainer: L.Trainer, data: SvcDataModule, options: PreflightOptions
) -> FoundBatchSize:
    """The largest batch that fits this process's device, less a margin."""
    crops = data.crops_per_epoch // trainer.world_size
    most = max(min(options.max_batch_size, crops), 1)
    on_cpu = probe.device.type == "cpu"
    first = 1 if on_cpu else FIRST_SIZE
    two = Search(math.inf, most, first)
    measured = probe.measure(
        lambda so_far: two.next_size(so_far, probe.too_large) if len(so_far) < 2 else None
    )
    budget = _budget(trainer)  # by now the device's libraries have taken what they need
    search = Search(budget * (1 - options.margin), most, first, daring=not on_cpu)
    while search.next_size(measured, probe.too_large) is not None:
        # Comes back early where there was no memory for a size.
        measured = probe.measure(lambda so_far: search.next_size(so_far, probe.too_large), measured)
    return FoundBatchSize(search.result(measured, probe.too_large), measured, budget)


def _choose(
    probe: MemoryProbe, trainer: L.Trainer, data: SvcDataModule, options: PreflightOptions
) -> None:
    """Find the batch size of the run."""
    _logger.info("data.batch_size=auto: trying growing batches on %s.", probe.device)
    found = find_batch_size(probe, trainer, data, options)
    chosen = _least(trainer, found.batch_size)
    if chosen < 1:
        raise _refusal(
            "data.batch_size=auto", found.measured, chosen, found.budget_bytes, probe.device
        )
    data.choose_batch_size(chosen)
    _logger.info(
        "data.batch_size=auto: %d crops%s.%s",
        chosen,
        " per device" if trainer.world_size > 1 else "",
        _estimate(found.measured, chosen, found.budget_bytes, probe.device),
    )


def _check(
    probe: MemoryProbe, trainer: L.Trainer, data: SvcDataModule, options: PreflightOptions
) -> None:
    """Tell what the batch that was asked for will take."""
    batch_size, device = data.batch_size, probe.device
    on_cpu = device.type == "cpu"
    measured = _measure_sizes(probe, check_sizes(batch_size, _ON_A_CPU if on_cpu else 8))
    budget = _budget(trainer)
    expected = _expected(measured, batch_size)
    is_measured = any(m.batch_size == batch_size for m in measured)
    if not on_cpu and not is_measured and expected > budget * (1 - options.margin):
        # An estimate refuses nobody: a step tells.
        measured += _measure_sizes(probe, (batch_size,))
        fits = any(m.batch_size == batch_size for m in measured)
    else:
        fits = expected <= budget
    if not trainer.strategy.reduce_boolean_decision(fits, all=True):
        fitting = _largest(measured, budget * (1 - options.margin), batch_size - 1)
        suggested = _least(trainer, sensible(fitting))
        raise _refusal(f"data.batch_size={batch_size}", measured, suggested, budget, device)
    most = _largest(measured, budget, _BOUNDLESS)
    _logger.info(
        "data.batch_size=%d.%s%s",
        batch_size,
        _estimate(measured, batch_size, budget, device),
        f" The largest batch that fits is about {max(most, batch_size)}."
        if most < _BOUNDLESS  # else a crop takes nothing that could be measured
        else "",
    )


def _measure_sizes(probe: MemoryProbe, sizes: Sequence[int]) -> list[Measurement]:
    return probe.measure(lambda so_far: sizes[len(so_far)] if len(so_far) < len(sizes) else None)


def _expected(measured: Sequence[Measurement], batch_size: int) -> float:
    """Bytes that a step takes: measured, or from the line; infinite where nothing is known."""
    for measurement in measured:
        if measurement.batch_size == batch_size:
            return measurement.peak_bytes
    return MemoryLine.through(measured).at(batch_size) if len(measured) >= 2 else math.inf


def _largest(measured: Sequence[Measurement], usable_bytes: float, most: int) -> int:
    if len(measured) >= 2:
        return MemoryLine.through(measured).largest(usable_bytes, most)
    return max((m.batch_size for m in measured if m.peak_bytes <= usable_bytes), default=0)


def _budget(trainer: L.Trainer) -> int:
    device = trainer.strategy.root_device
    budget = budget_bytes(device, trainer.num_devices if device.type == "cpu" else 1)
    assert budget is not None  # `_not_measurable` has asked
    return budget


def _least(trainer: L.Trainer, number: int) -> int:
    """The smallest of all processes."""
    device = trainer.strategy.root_device
    least = trainer.strategy.reduce(torch.tensor(number, device=device), reduce_op="min")
    return int(least)


def _estimate(
    measured: Sequence[Measurement], batch_size: int, budget: int, device: torch.device
) -> str:
    """A sentence, or nothing where nothing is known."""
    expected = _expected(measured, batch_size)
    if not math.isfinite(expected):
        return ""
    return (
        f" A training step takes about {in_gib(expected)} of the {in_gib(budget)} that are there "
        f"for it on {device}."
    )


def _refusal(
    setting: str,
    measured: Sequence[Measurement],
    suggested: int,
    budget: int,
    device: torch.device,
) -> UserError:
    if suggested < 1:
        return UserError(
            f"{setting}: not even one crop fits into the {in_gib(budget)} that are there for "
            f"training on {device}. Take shorter crops (data.crop_frames), a smaller model (arch), "
            f"or another device, and end other programs that use this one."
        )
    asked = int(setting.partition("=")[2])
    return UserError(
        f"{setting} does not fit.{_estimate(measured, asked, budget, device)} The largest batch "
        f"that fits is about {suggested}: give data.batch_size={suggested}, or "
        f"data.batch_size=auto. {SMALLER_STEPS}"
    )


def _batch_size_in(checkpoint: Path) -> int:
    """What `data.batch_size=auto` came to when the run began."""
    state = read_checkpoint(checkpoint).get(SvcDataModule.__qualname__) or {}
    if "batch_size" not in state:
        raise UserError(
            f"data.batch_size=auto: the checkpoint {checkpoint} does not say how large its batches "
            f"were. Give data.batch_size as it was."
        )
    return int(state["batch_size"])
