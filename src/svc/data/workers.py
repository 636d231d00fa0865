"""Running extraction jobs on every core."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from svc.data.extraction import Job, Recipe, RecordingExtractor
from svc.data.process_pool import count_workers, run_in_processes
from svc.data.report import reason_of
from svc.data.store_writer import SourceRecord, StoreWriteError, StoreWriter
from svc.errors import UserError

_LOG = logging.getLogger(__name__)

_SETTING = "preparation.workers"

_extractor: RecordingExtractor
"""Of a worker process, built once by `_prepare_worker`."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    name: str
    """Of the recording."""
    result: SourceRecord | str
    """What is finished, or the reason why it cannot be used."""


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
    workers = count_workers(workers, _SETTING, len(jobs), sum(job.duration_s for job in jobs))
    if workers == 1:
        yield from _here(recipe, folder, jobs)
        return
    # The first job shows early whether the extractors can be built; their error is a UserError,
    # which a broken pool would hide.
    RecordingExtractor(recipe, StoreWriter(folder))
    yield from run_in_processes(
        _run_in_worker, jobs, workers, _SETTING, _prepare_worker, (recipe, folder)
    )


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


def _prepare_worker(recipe: Recipe, folder: Path) -> None:
    global _extractor
    _extractor = RecordingExtractor(recipe, StoreWriter(folder))


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
