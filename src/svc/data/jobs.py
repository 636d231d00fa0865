"""The jobs of a preparation: which recordings have to be extracted, and extracting them."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from svc.audio.io import probe
from svc.data.extraction import Job, Outcome
from svc.data.process_pool import available_cores
from svc.data.recipe import Recipe
from svc.data.report import SkippedFile, reason_of
from svc.data.sources import Recording
from svc.data.store import Feature
from svc.data.store_writer import FailureRecord, SourceRecord, StoreWriter
from svc.data.workers import extract_all
from svc.errors import UserError
from svc.hashing import file_sha256

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is to be done with each recording."""

    jobs: list[Job]
    """To be extracted, longest first."""
    unchanged: list[SourceRecord]
    skipped: list[SkippedFile]
    gone: list[str]
    """Names of finished recordings that the source no longer has, or that can no longer be used."""

    @property
    def replaces(self) -> bool:
        """Whether arrays that a finished store relies on are about to change."""
        return bool(self.gone) or any(job.previous is not None for job in self.jobs)


def plan_jobs(
    recordings: Sequence[Recording], finished: Mapping[str, SourceRecord], recipe: Recipe
) -> Plan:
    """What is to be done so that a store holds these recordings and no others.

    Args:
        recordings: wanted.
        finished: recordings that the store holds, by name.
        recipe: how features are made.
    """
    fingerprints = recipe.settings().feature_fingerprints()
    plan = Plan([], [], [], sorted(finished.keys() - {r.name for r in recordings}))
    names = [recording.name for recording in recordings]
    if len(set(names)) < len(names):
        raise ValueError("a source must name each recording once")
    with ThreadPoolExecutor(available_cores()) as threads:
        inspected = list(threads.map(_inspect, recordings))
    for recording, found in zip(recordings, inspected, strict=True):
        done = finished.get(recording.name)
        if isinstance(found, SkippedFile):
            plan.skipped.append(found)
            if done is not None:
                plan.gone.append(recording.name)
            continue
        duration_s, sha256 = found
        stale = _stale_features(done, recording, sha256, fingerprints)
        if done is not None and not stale:
            plan.unchanged.append(done.keeping(fingerprints))
        else:
            plan.jobs.append(Job(recording, sha256, duration_s, fingerprints, stale, previous=done))
    plan.jobs.sort(key=lambda job: (-job.duration_s, job.recording.name))
    return plan


def _inspect(recording: Recording) -> tuple[float, str] | SkippedFile:
    """Duration in seconds and SHA-256 of a recording, or why it cannot be used."""
    try:
        return probe(recording.path).duration_s, file_sha256(recording.path)
    except UserError as error:
        return SkippedFile(recording.name, reason_of(error))
    except OSError as error:
        return SkippedFile(recording.name, f"cannot be read: {error.strerror}")


def _stale_features(
    done: SourceRecord | None,
    recording: Recording,
    sha256: str,
    fingerprints: Mapping[str, str],
) -> frozenset[Feature]:
    """The features of a recording that must be extracted."""
    if done is None or done.sha256 != sha256 or done.speaker != recording.speaker:
        return cast(frozenset[Feature], frozenset(fingerprints))
    return cast(
        frozenset[Feature],
        frozenset(
            feature
            for feature, fingerprint in fingerprints.items()
            if done.fingerprints.get(feature) != fingerprint
        ),
    )


def run_jobs(
    recipe: Recipe, writer: StoreWriter, jobs: Sequence[Job], workers: int | None, progress: bool
) -> tuple[list[SourceRecord], list[FailureRecord]]:
    """Extract recordings; how each ended stands in the store as soon as it has ended.

    Args:
        recipe: how features are made.
        writer: of the store.
        jobs: recordings to extract.
        workers: processes; None for one per core, or none where the work is short.
        progress: show a progress bar with the time left; else every tenth is logged.

    Returns:
        What is finished and what failed, in the order in which they ended.

    Raises:
        UserError: the store cannot be written, an extractor cannot be built, or a worker died.
    """
    by_name = {job.recording.name: job for job in jobs}
    outcomes: Iterable[Outcome] = extract_all(recipe, writer.folder, jobs, workers)
    if jobs:
        outcomes = (_with_progress if progress else _with_lines)(outcomes, jobs)
    extracted: list[SourceRecord] = []
    failed: list[FailureRecord] = []
    for outcome in outcomes:
        if isinstance(outcome.result, SourceRecord):
            extracted.append(outcome.result)
        else:
            failed.append(failure_of(by_name[outcome.name], outcome.result))
            writer.write_failure(failed[-1])
    return extracted, failed


def failure_of(job: Job, reason: str) -> FailureRecord:
    """The record of a job that failed for this reason."""
    recording = job.recording
    return FailureRecord(
        recording.name, recording.speaker, job.sha256, dict(job.fingerprints), reason
    )


def _with_progress(outcomes: Iterable[Outcome], jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Pass outcomes through, moving a bar by the seconds of audio behind each."""
    durations_s = {job.recording.name: job.duration_s for job in jobs}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[files]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("extracting", total=sum(durations_s.values()), files="")
        for count, outcome in enumerate(outcomes, start=1):
            bar.update(
                task,
                advance=durations_s[outcome.name],
                files=f"{count}/{len(jobs)} files",
            )
            yield outcome


def _with_lines(outcomes: Iterable[Outcome], jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Pass outcomes through, logging a line after every tenth: bars of several processes would
    overwrite each other."""
    durations_s = {job.recording.name: job.duration_s for job in jobs}
    total_s, done_s, tenths = sum(durations_s.values()), 0.0, 0
    for count, outcome in enumerate(outcomes, start=1):
        done_s += durations_s[outcome.name]
        reached = 10 if count == len(jobs) else int(10 * done_s / total_s)
        if reached > tenths:
            tenths = reached
            _LOG.info("extracting: %d %%, %d of %d files", 10 * tenths, count, len(jobs))
        yield outcome
