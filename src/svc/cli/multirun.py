"""What is special about the jobs of a multirun (`-m`), which Hydra's launchers may run anywhere."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

_sweep_folder: Path | None = None
"""Of the multirun that this process launches, where its command leaves no folder behind."""

_gpus_taken: ExitStack | None = None
"""Keeps this process's place among the jobs' processes until it ends, where it has one."""


class JobFailed(Exception):
    """A job of a multirun failed, or a process of a distributed run; travels from where it ran to
    the process that launched it.

    An exit would do harm instead: it ends joblib's other jobs, and Ray takes it for a crash.

    Args:
        code: exit code of the command.
        message: for people; empty where the job's process has told of it.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)  # as they came, so that other processes can send it
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message or f"exit code {self.code}"


def in_multirun() -> bool:
    """Whether this is a job of a multirun."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def launched_elsewhere() -> bool:
    """Whether this is a job of a multirun with a process of its own, and so with others beside."""
    return in_multirun() and _launcher() != "BasicLauncher"


def in_process_of_joblib() -> bool:
    """Whether this is a job of a multirun in one of joblib's processes."""
    return in_multirun() and _launcher() == "JoblibLauncher"


def jobs_at_once(most: int | None = None) -> int:
    """How many jobs of this multirun run on this machine at a time, by the launcher's settings.

    Slurm and its like keep jobs to their cores themselves, so that they count as alone.

    Args:
        most: there are no more of them; None where that is not known.
    """
    if not launched_elsewhere():
        return 1
    from hydra.core.hydra_config import HydraConfig

    from svc.data.process_pool import available_cores

    settings: Any = HydraConfig.get().launcher
    cores, jobs = available_cores(), 1
    if _launcher() == "JoblibLauncher":
        jobs = settings.n_jobs if settings.n_jobs > 0 else cores + 1 + settings.n_jobs
    elif _launcher() == "RayLauncher":
        cpus = min(settings.ray.init.get("num_cpus") or cores, cores)
        jobs = int(cpus // max(settings.ray.remote.get("num_cpus") or 1, 1))
    elif _launcher() == "LocalLauncher":  # of submitit: all at once
        jobs = most or 1
    return max(min(jobs, most or jobs), 1)


@contextmanager
def share_of_cores(jobs: int) -> Iterator[int | None]:
    """Keep this process, and those that it starts, on its share of the cores.

    Args:
        jobs: that run on this machine at a time, this one included.

    Yields:
        How many processes may compute, where the operating system cannot see to it.
    """
    from svc.data.process_pool import available_cores

    each = max(available_cores() // jobs, 1)
    if jobs < 2:
        yield None
        return
    if not hasattr(os, "sched_setaffinity"):
        yield each
        return
    cores = sorted(os.sched_getaffinity(0))
    with _free_place(jobs) as place:
        mine = cores[place * each : (place + 1) * each] if place is not None else cores
        os.sched_setaffinity(0, mine or cores)
        try:
            yield None if mine else each
        finally:
            os.sched_setaffinity(0, cores)  # joblib gives the process another job


def take_gpus() -> None:
    """Give this process GPUs of its own, where joblib runs several jobs on this machine at a time.

    The GPUs are shared out evenly; where there are more jobs than GPUs, some share one. A process
    keeps its GPUs until it ends, because CUDA does not let go of them, and joblib gives it one job
    after the other. Ray and Slurm see to this themselves.
    """
    global _gpus_taken
    if _gpus_taken is not None or not launched_elsewhere() or _launcher() != "JoblibLauncher":
        return
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    jobs = jobs_at_once()
    if len(names) < 2 or jobs < 2:
        return
    with ExitStack() as stack:
        place = stack.enter_context(_free_place(jobs))
        if place is None:
            return
        each = max(len(names) // jobs, 1)
        mine = [names[(place * each + i) % len(names)] for i in range(each)]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        _gpus_taken = stack.pop_all()


@contextmanager
def _free_place(places: int) -> Iterator[int | None]:
    """A number below `places` that no other job of this multirun on this machine has now."""
    from filelock import FileLock, Timeout
    from hydra.core.hydra_config import HydraConfig

    sweep = f"{HydraConfig.get().runtime.cwd}/{HydraConfig.get().sweep.dir}"
    key = hashlib.sha256(sweep.encode()).hexdigest()[:12]
    for place in range(places):
        path = Path(tempfile.gettempdir()) / f"svc-{os.getuid()}-{key}-{place}.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            yield place
        finally:
            path.unlink(missing_ok=True)
            lock.release()
        return
    yield None


def _launcher() -> str:
    """Name of the launcher's class."""
    from hydra.core.hydra_config import HydraConfig

    return str(HydraConfig.get().launcher._target_).rpartition(".")[2]


class NoSweepFolder(Callback):
    """Has the folder removed that Hydra makes for a multirun; in conf/hydra/no_run_folder.yaml."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Remember which folder; Hydra calls this in the launching process."""
        global _sweep_folder
        _sweep_folder = Path(config.hydra.sweep.dir)


def remove_sweep_folder() -> None:
    """Remove what Hydra made for a multirun that leaves no runs, but for logs of the launcher."""
    global _sweep_folder
    folder, _sweep_folder = _sweep_folder, None
    if folder is None or not folder.is_dir():
        return
    (folder / "multirun.yaml").unlink(missing_ok=True)
    for job in folder.iterdir():
        if job.is_dir() and not any(job.iterdir()):
            job.rmdir()
    remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Remove a folder and those around it, up to the one that we are in, while they are empty."""
    folder = folder.absolute()
    while Path.cwd() in folder.parents and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
