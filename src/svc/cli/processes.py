"""Training on several devices: one process for each, started and watched by the command."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from svc.cli.multirun import JobFailed
from svc.cli.quoting import hydra_quoted
from svc.errors import EndedOnRequest, UserError

_logger = logging.getLogger(__name__)

_PARENT = "SVC_PARENT_PROCESS"
"""Tells a process which one started it."""

_END_WITHIN_S = 30
"""After a signal, until processes are killed."""

_LOOK_EVERY_S = 1.0


def processes_to_start(trainer: Mapping[str, Any]) -> int:
    """How many processes this one has to start for a run; 1 where it trains by itself.

    That is so on a single device, and where it is one of several processes already: those that this
    command, torchrun or Slurm's srun have started. A Slurm job of one task is like a machine of its
    own.

    Raises:
        UserError: several machines are wanted, and nothing has started processes on them; or Slurm
            has started others than are wanted.
    """
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    from svc.training.devices import devices_here

    if TorchElasticEnvironment.detect():
        return 1
    devices = devices_here(trainer["accelerator"], trainer["devices"])
    if SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1:
        _require_slurms_processes(devices, trainer["num_nodes"])
        return 1
    if trainer["num_nodes"] > 1:
        raise UserError(
            f"trainer.num_nodes={trainer['num_nodes']}: svc-train starts processes on its own "
            f"machine only. Start it on every machine with torchrun --nnodes=… --nproc-per-node=… "
            f"-m svc.cli.train …, or with srun in a Slurm job; see docs/training.md."
        )
    return devices


def _require_slurms_processes(devices: int, machines: int) -> None:
    """Slurm runs a task for each device, or processes would wait for others that never come."""
    tasks, nodes = (os.environ.get(f"SLURM_{key}") for key in ("NTASKS_PER_NODE", "NNODES"))
    if tasks != str(devices) or nodes not in (None, str(machines)):
        raise UserError(
            f"trainer.devices={devices} on trainer.num_nodes={machines} machine(s) wants a Slurm "
            f"job with --nodes={machines} --ntasks-per-node={devices}; this one has "
            f"--nodes={nodes or 1} --ntasks-per-node={tasks or '(not set)'}."
        )


def is_first() -> bool:
    """Whether this process speaks for the run: it is the only one, or the first of several."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0) == 0


def quieten_all_but_first() -> None:
    """Only one process of a run tells how it goes; all tell of faults."""
    if not is_first():
        logging.getLogger().setLevel(logging.WARNING)


def end_with_parent() -> None:
    """Have this process end where the command that started it is killed; one that was not started
    by `run_processes` stays as it is."""
    if _PARENT in os.environ:
        threading.Thread(target=_die_with_parent, daemon=True).start()


def run_processes(
    count: int, overrides: Sequence[str], run_dir: Path, resume_from: Path | None
) -> None:
    """Run the training that this command was asked for in `count` processes of this machine.

    Where one of them dies, the others are ended.

    Args:
        count: of processes, one for each device.
        overrides: of the configuration, as typed.
        run_dir: of the run.
        resume_from: checkpoint that is continued, whatever `overrides` say.

    Raises:
        JobFailed: one of them failed or was killed.
        KeyboardInterrupt: this command was interrupted.
        EndedOnRequest: it got SIGTERM, and its processes have saved their work.
    """
    from torch.distributed.elastic.multiprocessing import (
        DefaultLogsSpecs,
        SignalException,
        start_processes,
    )

    _give_gpus_back()
    fixed = ["hydra.mode=RUN", f"hydra.run.dir={hydra_quoted(str(run_dir.absolute()))}"]
    if resume_from is not None:
        fixed.append(f"resume={hydra_quoted(str(resume_from.absolute()))}")
    arguments = ("-m", "svc.cli.train", *overrides, *fixed)
    _logger.info("Training in %d processes, one for each device.", count)
    context = start_processes(
        "svc-train",
        sys.executable,
        args=dict.fromkeys(range(count), arguments),
        envs=_environments(count),
        logs_specs=DefaultLogsSpecs(),
    )
    try:
        result = context.wait(period=0.2)
    except SignalException as caught:
        context.close(caught.sigval, timeout=_END_WITHIN_S)
        if caught.sigval == signal.SIGTERM:
            raise EndedOnRequest("") from caught  # the first process has told
        raise KeyboardInterrupt from caught
    finally:
        context.close(timeout=_END_WITHIN_S)
    if result is not None and result.is_failed():
        raise _failure(result.failures)


def _give_gpus_back() -> None:
    """What this process has taken of GPUs to prepare the dataset is for those that train on it."""
    import torch

    from svc.device_memory import release

    if torch.cuda.is_initialized():
        release(torch.device("cuda"))


def _failure(failures: Mapping[int, Any]) -> JobFailed:
    """What to say of the process that failed first. One that was killed comes before those that
    say so of it."""
    rank, first = min(failures.items(), key=lambda item: (item[1].exitcode > 0, item[1].timestamp))
    if first.exitcode > 0:
        return JobFailed(first.exitcode, "")  # it has said why
    return JobFailed(
        1,
        f"process {rank} of the run was killed ({first.signal_name()}), most likely for want of "
        f"memory; the others were ended. What the last checkpoint holds is kept: continue with "
        f"resume=auto.",
    )


def _environments(count: int) -> dict[int, dict[str, str]]:
    """What torchrun would tell each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": f"svc-{os.getpid()}",
        _PARENT: str(os.getpid()),
    }
    return {r: {**shared, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(count)}


def _die_with_parent() -> None:
    """Where the command is killed, nobody watches over its processes any more."""
    while os.getppid() == int(os.environ[_PARENT]):
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)
