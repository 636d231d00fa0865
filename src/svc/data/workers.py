"""Running extraction jobs on every core, and on a GPU where extractors compute there."""

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from svc.data.extraction import Job, Outcome, RecordingExtractor
from svc.data.process_pool import count_workers, run_in_processes
from svc.data.recipe import Recipe
from svc.data.slice_features import ALL_FEATURES
from svc.data.store import Feature
from svc.data.store_writer import StoreWriter

_SETTING = "preparation.workers"

_extractor: RecordingExtractor
"""Of a worker process, built once by `_prepare_worker`."""


def extract_all(
    recipe: Recipe, folder: Path, jobs: Sequence[Job], workers: int | None
) -> Iterator[Outcome]:
    """Run jobs and yield how each ended, as they end.

    Every worker runs one torch thread, in this process too, so that features do not depend on how
    many workers there are. A GPU is driven by this process alone, which counts as a worker.

    Args:
        recipe: how features are made.
        folder: the store.
        jobs: recordings, each a different one.
        workers: processes; None for one per core, or none where the work is short.

    Raises:
        UserError: the store cannot be written, an extractor cannot be built, or a worker died.
    """
    if not jobs:
        return
    workers = count_workers(workers, _SETTING, len(jobs), sum(job.duration_s for job in jobs))
    # Built here first, as the error of an extractor that cannot be is a UserError, which a broken
    # pool would hide.
    extractor = RecordingExtractor(recipe, StoreWriter(folder))
    on_gpu = extractor.on_gpu
    if on_gpu:
        with _one_thread(), closing(_half_done(recipe, folder, jobs, workers, on_gpu)) as halves:
            yield from _completed(extractor, halves)
    elif workers > 1:
        del extractor
        yield from _in_processes(recipe, folder, jobs, workers, ALL_FEATURES)
    else:
        with _one_thread():
            for job in jobs:
                yield from extractor.extract([job])


def _half_done(
    recipe: Recipe, folder: Path, jobs: Sequence[Job], workers: int, on_gpu: frozenset[Feature]
) -> Generator[Job | Outcome, None, None]:
    """What is left of jobs for the GPU, after other processes have done what needs none.

    In between, a recording's record promises what is there, so that a killed run goes on from that.
    """
    if workers == 1:
        yield from jobs
        return
    first = []
    for job in jobs:
        if job.features <= on_gpu:
            yield job
            continue
        promised = {k: v for k, v in job.fingerprints.items() if k not in job.features & on_gpu}
        first.append(replace(job, features=job.features - on_gpu, fingerprints=promised))
    whole = {job.recording.name: job for job in jobs}
    on_cpu = ALL_FEATURES - on_gpu
    for outcome in _in_processes(recipe, folder, first, workers - 1, on_cpu):
        job = whole[outcome.name]
        left = job.features & on_gpu
        if isinstance(outcome.result, str) or not left:
            yield outcome
        else:
            yield replace(job, features=left, previous=outcome.result)


def _completed(extractor: RecordingExtractor, halves: Iterator[Job | Outcome]) -> Iterator[Outcome]:
    """Extract what is left, slices of several recordings together; pass on what has ended."""
    ended: list[Outcome] = []

    def left() -> Iterator[Job]:
        for item in halves:
            if isinstance(item, Outcome):
                ended.append(item)
            else:
                yield item

    for outcome in extractor.extract(left()):
        yield from ended
        ended.clear()
        yield outcome
    yield from ended


def _in_processes(
    recipe: Recipe, folder: Path, jobs: Sequence[Job], workers: int, only: Collection[Feature]
) -> Iterator[Outcome]:
    return run_in_processes(
        _run_in_worker, jobs, workers, _SETTING, _prepare_worker, (recipe, folder, only)
    )


def _prepare_worker(recipe: Recipe, folder: Path, only: Collection[Feature]) -> None:
    global _extractor
    _extractor = RecordingExtractor(recipe, StoreWriter(folder), only)


def _run_in_worker(job: Job) -> Outcome:
    (outcome,) = _extractor.extract([job])
    return outcome


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
