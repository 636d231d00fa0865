"""Recordings -> feature store: in parallel, resumable, and telling of every file that fails."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from svc.audio.spec import AudioSpec
from svc.data.augmentation.content import ContentPerturbation
from svc.data.extraction import RecordingExtractor
from svc.data.jobs import plan_jobs, run_jobs
from svc.data.recipe import Recipe
from svc.data.report import PreparationReport, SkippedFile, report_speakers
from svc.data.settings import PartFactory
from svc.data.shards import recorded_failures
from svc.data.sources import RecordingSource
from svc.data.splitting import split_slices
from svc.data.store import StoreMeta
from svc.data.store_writer import FailureRecord, SourceRecord, StoreWriter
from svc.errors import UserError, UserErrors
from svc.features.content.base import ContentEncoder
from svc.features.energy.base import EnergyExtractor
from svc.features.pitch.base import PitchTracker


def prepare(
    source: RecordingSource,
    folder: str | Path,
    *,
    spec: AudioSpec,
    content: PartFactory[ContentEncoder],
    pitch: PartFactory[PitchTracker],
    energy: PartFactory[EnergyExtractor],
    slicing: Mapping[str, Any] | None = None,
    store_mel: bool = False,
    perturbation: PartFactory[ContentPerturbation] | None = None,
    workers: int | None = None,
    batch_s: float | None = 120.0,
    valid_fraction: float = 0.05,
    valid_files: int | None = None,
    seed: int = 0,
    merge: int | None = None,
    progress: bool = True,
) -> PreparationReport:
    """Bring a feature store up to date with a source and settings.

    What is there already and still right is left alone: a run that was killed goes on where it was,
    and the folder ends up the same to the byte as if it had not been. A changed recording is
    extracted anew; changed settings extract just the features that they touch; recordings that are
    gone from the source leave the store. A recording that cannot be used is skipped and reported.

    Args:
        source: where recordings come from.
        folder: the store; made where it is missing.
        spec: framing, and mel range where mels are stored.
        content, pitch, energy: classes of the extractors, or `functools.partial` of them.
        slicing: arguments of `svc.audio.slicing.slice_at_silences` that are not at their default.
        store_mel: store mels too (1.3 MB per minute), which saves computing them in training.
        perturbation: store the content of perturbed copies of the audio too, for augmentation; each
            copy takes as long and as much space as the content itself.
        workers: processes that extract, each on one core; None uses every core, or none where the
            work is too short to be worth starting them.
        batch_s: seconds of audio that each of them holds at once and that go through the networks
            together; None or 0 for one slice at a time.
        valid_fraction: share of each speaker's recordings that is held out for validation.
        valid_files: number of recordings per speaker to hold out instead.
        seed: decides which.
        merge: extract nothing, because so many shards (`svc.data.shards`) have done it, and refuse
            where they have not; None extracts whatever is not there yet.
        progress: show a progress bar with the time left.

    Returns:
        What was found; also saved as report.json in the store.

    Raises:
        UserError: the source holds nothing, no recording can be used, an argument is out of range,
            the store cannot be written, or shards that are to be merged have left something out.
    """
    _check_arguments(workers, valid_fraction, valid_files)
    recipe = Recipe(
        spec, dict(slicing or {}), content, pitch, energy, store_mel, perturbation, batch_s
    )
    recordings = source.recordings()
    writer = StoreWriter(Path(folder))
    with writer.locked():
        writer.remove_partial_files()
        plan = plan_jobs(recordings, writer.read_sources(), recipe)
        failed: list[FailureRecord] = []
        if merge is not None:
            names = [recording.name for recording in recordings]
            failed = recorded_failures(writer, plan.jobs, names, merge)
        if plan.replaces:
            writer.reopen()
        for name in plan.gone:
            writer.forget_source(name)
        for record in plan.unchanged:
            writer.write_source(record)
        extracted: list[SourceRecord] = []
        if merge is None:
            extracted, failed = run_jobs(recipe, writer, plan.jobs, workers, progress)
        unusable = [SkippedFile(failure.name, failure.reason) for failure in failed]
        skipped = sorted([*plan.skipped, *unusable], key=lambda file: file.name)
        finished = sorted([*plan.unchanged, *extracted], key=lambda record: record.name)
        if not finished:
            raise UserErrors(
                f"None of the {len(recordings)} recording(s) of {source.name} can be used:",
                [f"{file.name}: {file.reason}" for file in skipped],
            )
        slices, notes = split_slices(
            [record for done in finished for record in done.slices],
            seed=seed,
            valid_fraction=valid_fraction,
            valid_files=valid_files,
        )
        report = PreparationReport(
            source=source.name,
            folder=writer.folder,
            speakers=report_speakers(writer.folder, slices),
            skipped=tuple(skipped),
            notes=tuple(notes),
            extracted_files=len(extracted),
            unchanged_files=len(plan.unchanged),
            removed_files=len(plan.gone),
        )
        meta = _meta(recipe, writer, finished)
        writer.finish(meta, slices, finished, failed, report.as_dict())
    return report


def _meta(recipe: Recipe, writer: StoreWriter, finished: Sequence[SourceRecord]) -> StoreMeta:
    from svc import __version__

    return StoreMeta(
        settings=recipe.settings(),
        speakers=tuple(sorted({record.speaker for record in finished})),
        content_channels=finished[0].content_channels,
        content_grid=RecordingExtractor(recipe, writer).content_grid,
        svc_version=__version__,
    )


def _check_arguments(workers: int | None, valid_fraction: float, valid_files: int | None) -> None:
    if workers is not None and workers < 1:
        raise UserError(f"preparation.workers={workers} must be at least 1, or null for all cores.")
    if not 0 <= valid_fraction < 1:
        raise UserError(
            f"preparation.valid_fraction={valid_fraction} must be at least 0 and below 1."
        )
    if valid_files is not None and valid_files < 0:
        raise UserError(f"preparation.valid_files={valid_files} must not be negative.")
