"""Work on many recordings in processes of one core each, which never outlive their parent."""

import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

import torch

from svc.errors import UserError

_LOG = logging.getLogger(__name__)

SERIAL_BELOW_S = 300.0
"""Seconds of audio below which starting processes (each imports torch, 2 to 4 s) takes longer than
the work itself."""

Task = TypeVar("Task")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_workers(wanted: int | None, setting: str, tasks: int, audio_s: float) -> int:
    """How many processes to use: never more than there are cores or tasks, and at least 1.

    Args:
        wanted: what the user asked for; None for one per core, or 1 where there is little to do.
        setting: the name of that setting, for the warning where `wanted` is more than the cores.
        tasks: of the pool.
        audio_s: seconds of audio in all tasks; only looked at where `wanted` is None.
    """
    cores = available_cores()
    if wanted is None:
        wanted = 1 if audio_s < SERIAL_BELOW_S else cores
    elif wanted > cores:
        _LOG.warning(
            "%s=%d is more than the %d core(s) here: %d used, as more would only wait for each "
            "other.",
            setting,
            wanted,
            cores,
            cores,
        )
        wanted = cores
    return max(min(wanted, tasks), 1)


def run_in_processes(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    setting: str,
    prepare_worker: Callable[..., object] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Results of tasks, as they come, from processes that run one torch thread on one core each.

    Ctrl-C goes to this process, which ends its workers; where this process is killed, they end by
    themselves.

    Args:
        work: a function of a module, which the workers import; must not raise but for faults that
            end everything.
        tasks: what can be pickled.
        workers: processes.
        setting: what the number of workers is called, for the advice where one of them died.
        prepare_worker: called in each worker before its first task.
        arguments: of `prepare_worker`.

    Raises:
        UserError: a worker died.
    """
    context = _context(work.__module__)
    others = set(multiprocessing.active_children())
    places = context.Queue()
    for place in itertools.islice(itertools.cycle(range(available_cores())), workers):
        places.put(place)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (places, prepare_worker, arguments))
    try:
        for future in as_completed([pool.submit(work, task) for task in tasks]):
            yield future.result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise UserError(
            f"A worker process died, most likely for want of memory. Run again with fewer "
            f"({setting}={max(workers // 2, 1)}); what was finished is kept."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        # After Ctrl-C nobody wants to wait for the recordings under way.
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()


def _context(module: str) -> BaseContext:
    """Processes that do not inherit this one's threads, sharing one import of torch if they can."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([module])
        return context
    return multiprocessing.get_context("spawn")


def _start_worker(
    places: Any, prepare_worker: Callable[..., object] | None, arguments: tuple[Any, ...]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        # Libraries that start a thread per core (Praat) then start one.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[places.get() % len(cores)]})
    torch.set_num_threads(1)
    if prepare_worker is not None:
        prepare_worker(*arguments)


def _die_with_parent() -> None:
    """A killed command must not leave workers behind that go on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
