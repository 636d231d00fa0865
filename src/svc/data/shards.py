"""A preparation in shares, each by a process of its own, on one machine or on many.

Every process writes the arrays and records of its own recordings into the same store and nothing
else. What makes them one dataset (the split, the manifest, the report) is made once, by
`svc.data.preparation.prepare`, when the last of them has ended.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from svc.data.extraction import Job
from svc.data.jobs import failure_of, plan_jobs, run_jobs
from svc.data.recipe import Recipe
from svc.data.report import SkippedFile
from svc.data.sources import RecordingSource
from svc.data.store_writer import FailureRecord, StoreWriter
from svc.errors import UserError, UserErrors

_NAMED_PER_SHARD = 10
"""Missing recordings that a message lists, of each shard."""


@dataclass(frozen=True)
class Shard:
    """One of several shares of a source's recordings.

    Raises:
        UserError: there is no such share.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"shard.count={self.count} must be at least 1.")
        if not 0 <= self.index < self.count:
            raise UserError(
                f"shard.index={self.index} must be from 0 to {self.count - 1}, because "
                f"shard.count={self.count}. All of them: -m 'shard.index=range({self.count})'."
            )

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    def share(self, names: Collection[str]) -> set[str]:
        """Those of the names that are this shard's: every name is exactly one shard's.

        Names are dealt like cards, in the order of a hash, so that every shard has equally many
        to within one, and a long session of one speaker is spread over all. By the names alone:
        durations would balance better, but every machine would have to read all the files first,
        and a replaced file would move others to another shard.
        """
        ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        return set(ordered[self.index :: self.count])


@dataclass(frozen=True)
class ShardReport:
    """What the preparation of a shard did."""

    source: str
    folder: Path
    shard: Shard
    skipped: tuple[SkippedFile, ...]
    extracted_files: int
    unchanged_files: int

    def __rich__(self) -> RenderableType:
        """What was done, and the skipped files with reasons."""
        done = (
            f"{self.source}, shard.index={self.shard.index} of shard.count={self.shard.count}: "
            f"{self.extracted_files} recording(s) extracted, {self.unchanged_files} unchanged, "
            f"{len(self.skipped)} skipped. svc-preprocess without shard completes the dataset when "
            f"all are done."
        )
        skipped = [Text(f"skipped {file.name}: {file.reason}", "yellow") for file in self.skipped]
        return Group(Text(done), *skipped)


def prepare_shard(
    source: RecordingSource,
    folder: str | Path,
    shard: Shard,
    *,
    recipe: Recipe,
    workers: int | None = None,
    progress: bool = True,
) -> ShardReport:
    """Extract a shard's recordings into a store, as `svc.data.preparation.prepare` does all.

    The store is not complete afterwards: `prepare` makes it so. Shards may run at the same time; a
    killed one goes on where it was.

    Args:
        source: where recordings come from; the same for every shard.
        folder: the store; the same for every shard.
        shard: which share of the recordings.
        recipe: how features are made.
        workers: processes that extract; None uses every core, or none where the work is short.
        progress: show a progress bar with the time left.

    Raises:
        UserError: the source holds nothing, or the store cannot be written.
    """
    recordings = source.recordings()
    mine = shard.share([recording.name for recording in recordings])
    writer = StoreWriter(Path(folder))
    with writer.locked_shard(str(shard)):
        wanted = [recording for recording in recordings if recording.name in mine]
        plan = plan_jobs(wanted, writer.read_sources(mine), recipe)
        if plan.replaces:
            writer.reopen()
        for name in plan.gone:
            writer.forget_source(name)
        extracted, failed = run_jobs(recipe, writer, plan.jobs, workers, progress)
    unusable = [SkippedFile(failure.name, failure.reason) for failure in failed]
    return ShardReport(
        source=source.name,
        folder=writer.folder,
        shard=shard,
        skipped=tuple(sorted([*plan.skipped, *unusable], key=lambda file: file.name)),
        extracted_files=len(extracted),
        unchanged_files=len(plan.unchanged),
    )


def recorded_failures(
    writer: StoreWriter, jobs: Sequence[Job], names: Collection[str], count: int
) -> list[FailureRecord]:
    """How each of these jobs failed, when some shard ran it.

    Args:
        writer: of the store.
        jobs: recordings that are not finished.
        names: of all recordings.
        count: of shards; 1 where it is not known.

    Raises:
        UserErrors: some have not been run, with their recordings as they are now and with these
            settings.
    """
    failed, missing = [], set()
    for job in jobs:
        name = job.recording.name
        failure = writer.read_failure(name)
        if failure is not None and failure == failure_of(job, failure.reason):
            failed.append(failure)
        else:
            missing.add(name)
    if missing:
        raise UserErrors(
            f"shard.merge=true extracts nothing, and {len(missing)} of {len(names)} recording(s) "
            f"in {writer.folder} are not prepared with these settings. Run what is missing with "
            f"shard.count and shard.index, or all of it without shard.merge:",
            _by_shard(missing, names, count),
        )
    return failed


def _by_shard(missing: Collection[str], names: Collection[str], count: int) -> list[str]:
    lines = []
    for index in range(count):
        shard = Shard(index, count)
        absent = sorted(shard.share(names) & set(missing))
        if absent:
            listed = ", ".join(absent[:_NAMED_PER_SHARD])
            more = len(absent) - _NAMED_PER_SHARD
            rest = f" and {more} more" if more > 0 else ""
            lines.append(
                f"shard.count={count} shard.index={index}: {listed}{rest}"
                if count > 1
                else f"{listed}{rest}"
            )
    return lines
