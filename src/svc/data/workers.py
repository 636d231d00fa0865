"""Running extraction jobs on every core."""

import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch

from svc.audio.io import AudioFileError
from svc.data.extraction import Job, Recipe, RecordingExtractor
from svc.data.store_writer import SourceRecord, StoreWriteError, StoreWriter
from svc.errors import UserError

_LOG = logging.getLogger(__name__)

_SERIAL_BELOW_S = 300.0
"""Seconds of audio below which starting processes (each imports torch, 2 to 4 s) takes longer than
the work itself."""

_extractor: RecordingExtractor
"""Of a worker process, built once by `_start_worker`."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    name: str
    """Of the recording."""
    result: SourceRecord | str
    """What is finished, or the reason why it cannot be used."""


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def extract_all(
    recipe: Recipe, folder: Path, jobs: Sequence[Job], workers: int | None
) -> Iterator[Outcome]:
    """Run jobs and yield how each ended, as they end.

    Every worker runs one torch thread, in this process too, so that features do not depend on how
    many workers there are.

    Args:
        recipe: how features are made.
        folder: the store.
        jobs: recordings, each a different one.
        workers: processes; None for one per core, or none where the work is short.

    Raises:
        UserError: the store cannot be written, an extractor cannot be built, or a worker died.
    """
    if workers is None:
        short = sum(job.duration_s for job in jobs) < _SERIAL_BELOW_S
        workers = 1 if short else available_cores()
    workers = min(workers, len(jobs))
    if workers > 1:
        return _in_processes(recipe, folder, jobs, workers)
    return _here(recipe, folder, jobs)


def _here(recipe: Recipe, folder: Path, jobs: Sequence[Job]) -> Iterator[Outcome]:
    if not jobs:
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        extractor = RecordingExtractor(recipe, StoreWriter(folder))
        for job in jobs:
            yield _run(extractor, job)
    finally:
        torch.set_num_threads(threads)


def _in_processes(
    recipe: Recipe, folder: Path, jobs: Sequence[Job], workers: int
) -> Iterator[Outcome]:
    context = _context()
    others = set(multiprocessing.active_children())
    places = context.Queue()
    for place in itertools.islice(itertools.cycle(range(available_cores())), workers):
        places.put(place)
    # The first job shows early whether the extractors can be built; their error is a UserError,
    # which a broken pool would hide.
    RecordingExtractor(recipe, StoreWriter(folder))
    pool = ProcessPoolExecutor(workers, context, _start_worker, (recipe, folder, places))
    try:
        futures = [pool.submit(_run_in_worker, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise UserError(
            f"A worker process died, most likely for want of memory. Run again with fewer "
            f"(preparation.workers={max(workers // 2, 1)}): it goes on where it was."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        # After Ctrl-C nobody wants to wait for the recordings under way; every file in the store
        # is whole at any moment.
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()


def _context() -> BaseContext:
    """Processes that do not inherit this one's threads, sharing one import of torch if they can."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        return context
    return multiprocessing.get_context("spawn")


def _start_worker(recipe: Recipe, folder: Path, places: Any) -> None:
    global _extractor
    # Ctrl-C goes to the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        # Libraries that start a thread per core (Praat) then start one.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[places.get() % len(cores)]})
    torch.set_num_threads(1)
    _extractor = RecordingExtractor(recipe, StoreWriter(folder))


def _die_with_parent() -> None:
    """A killed preparation must not leave workers behind that go on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(job: Job) -> Outcome:
    return _run(_extractor, job)


def _run(extractor: RecordingExtractor, job: Job) -> Outcome:
    """Extract a recording; whatever is wrong with it becomes its reason in the report."""
    name = job.recording.name
    try:
        return Outcome(name, extractor.extract(job))
    except StoreWriteError:
        raise
    except UserError as error:
        return Outcome(name, reason_of(error))
    except Exception as error:
        # Extractors are foreign code; what one of them cannot digest must neither end the
        # preparation of a thousand other files nor go unmentioned.
        _LOG.debug("extraction of %s failed", name, exc_info=True)
        return Outcome(name, f"extraction failed: {type(error).__name__}: {error}")


def reason_of(error: UserError) -> str:
    """Why a recording cannot be used, without its path, which is told beside it."""
    return error.reason if isinstance(error, AudioFileError) else str(error)
