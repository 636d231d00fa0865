"""The Lightning Trainer as our modules need it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy

from svc.checkpoints.atomic_io import AtomicCheckpointIO
from svc.training.callbacks.compilation import CompileNetworks
from svc.training.callbacks.stop_on_signal import StopOnSignal
from svc.training.callbacks.validation_schedule import NEVER, ValidationSchedule
from svc.training.devices import devices_here
from svc.training.distributed import DataParallelStrategy
from svc.training.fit_loop import FitLoop
from svc.training.precision import TrainingPrecision, precision_plugin
from svc.training.sharding import ShardedStrategy

_logger = logging.getLogger(__name__)


def build_trainer(
    *,
    run_dir: str | Path,
    accelerator: Literal["cpu", "gpu", "mps", "auto"] = "auto",
    devices: int | Literal["auto"] = 1,
    num_nodes: int = 1,
    strategy: Literal["auto", "data_parallel", "fsdp"] = "auto",
    precision: TrainingPrecision = "32-true",
    max_steps: int = 100_000,
    validate_every_steps: int = 1000,
    validate_each_epoch: bool = True,
    log_every_steps: int = 50,
    accumulate_grad_batches: int = 1,
    limit_val_batches: int | float | None = None,
    compile: Literal[False, True, "max-autotune"] = False,
    tf32: bool = True,
    benchmark: bool = False,
    deterministic: Literal[False, True, "warn"] = False,
    detect_anomaly: bool = False,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> Trainer:
    """A Trainer whose steps and intervals are generator updates.

    What is fixed here belongs together: our modules optimise by hand, clip by themselves and scale
    their losses; validation runs by updates, not by batches; the data module splits the work of a
    distributed run; checkpoints are written in one go.

    Args:
        run_dir: folder of the run.
        accelerator: kind of device.
        devices: how many of them.
        num_nodes: machines in a distributed run.
        strategy: "data_parallel" has a process for each device, which averages gradients with the
            others (`svc.training.distributed`); "auto" does so where there are several devices.
            With "fsdp" each holds a share of the weights only (`svc.training.sharding`); a single
            device has nothing to share.
        precision: of the autocast regions; weights are always fp32.
        max_steps: generator updates; -1 for no limit.
        validate_every_steps: updates between validations.
        validate_each_epoch: validate after every epoch too, where that is shorter.
        log_every_steps: updates between lines of metrics; each waits for the device.
        accumulate_grad_batches: batches that make one update. For the record: modules, which
            optimise by hand, are told themselves (`accumulate_batches`).
        limit_val_batches: batches per validation (int), or the share of them (float).
        compile: have torch.compile make kernels of the networks, see `CompileNetworks`.
        tf32: let NVIDIA GPUs round what convolutions in fp32 multiply to 10 bits, which makes them
            some four times as fast. Spectral losses take matrix products, which stay exact.
        benchmark: let cuDNN measure which algorithm is fastest for each shape.
        deterministic: refuse operations whose result may vary from run to run; "warn" takes them
            where there are no others. CUDA has none for the running sum of the sine source and the
            gradient of reflected padding, so that True refuses every step there.
        detect_anomaly: name the operation in which a NaN arises; slow.
        callbacks: besides the schedule of validation and the ear for SIGTERM.
        loggers: where metrics go.
    """
    if accumulate_grad_batches < 1:
        raise ValueError(f"accumulate_grad_batches={accumulate_grad_batches} must be at least 1")
    torch.backends.cudnn.allow_tf32 = tf32
    on_gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    plugin = precision_plugin(precision, "cuda" if on_gpu else "cpu")
    trainer = Trainer(
        default_root_dir=run_dir,
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        strategy=_strategy(strategy, accelerator, devices, num_nodes),
        plugins=[plugin, AtomicCheckpointIO()],
        max_steps=max_steps,
        max_epochs=-1,
        val_check_interval=NEVER,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        # Lightning comments on an explicit 1.0.
        limit_val_batches=None
        if isinstance(limit_val_batches, float) and limit_val_batches == 1
        else limit_val_batches,
        log_every_n_steps=log_every_steps,
        use_distributed_sampler=False,
        benchmark=benchmark,
        deterministic=deterministic,
        detect_anomaly=detect_anomaly,
        callbacks=[
            ValidationSchedule(validate_every_steps, validate_each_epoch),
            *callbacks,
            *([CompileNetworks("default" if compile is True else compile)] if compile else []),
            StopOnSignal(),
        ],
        logger=list(loggers) or False,
        enable_checkpointing=any(_writes_checkpoints(callback) for callback in callbacks),
        enable_progress_bar=any(_shows_progress(callback) for callback in callbacks),
        enable_model_summary=False,
    )
    trainer.fit_loop = FitLoop(trainer)
    return trainer


def _strategy(name: str, accelerator: str, devices: int | str, num_nodes: int) -> Strategy | str:
    """No process group at all on a single device."""
    several = num_nodes > 1 or devices_here(accelerator, devices) > 1
    if name == "fsdp" and several:
        return ShardedStrategy()
    if name == "fsdp":
        _logger.info("trainer.strategy=fsdp: a single device has nothing to divide.")
    return DataParallelStrategy() if name == "data_parallel" or several else "auto"


def _writes_checkpoints(callback: Callback) -> bool:
    from lightning.pytorch.callbacks import Checkpoint

    return isinstance(callback, Checkpoint)


def _shows_progress(callback: Callback) -> bool:
    from lightning.pytorch.callbacks import ProgressBar

    return isinstance(callback, ProgressBar)
