"""Recordings -> the arrays of their slices. This is what the workers of a preparation run."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svc.data.cutting import Values, cut_recording, slice_of, with_pitch
from svc.data.recipe import Recipe
from svc.data.report import reason_of
from svc.data.slice_features import ALL_FEATURES, SliceExtractors, SliceFeatures
from svc.data.sources import Recording
from svc.data.store import AUDIO_FULL_SCALE, Feature, SliceRecord
from svc.data.store_writer import SourceRecord, StoreWriteError, StoreWriter
from svc.errors import UserError
from svc.features.content.base import FrameGrid

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One recording to be extracted, wholly or in part."""

    recording: Recording
    sha256: str
    duration_s: float
    fingerprints: Mapping[str, str]
    """What the record will promise."""
    features: frozenset[Feature]
    """What must be extracted; with "audio" everything is."""
    previous: SourceRecord | None = field(default=None)
    """What was finished of it before; its audio stays where "audio" need not be extracted."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    name: str
    """Of the recording."""
    result: SourceRecord | str
    """What is finished, or the reason why it cannot be used."""


@dataclass
class _UnderWay:
    """A recording of which not all slices are done."""

    job: Job
    is_cut: bool = False
    """Whether all of its slices are known."""
    waiting: int = 0
    """Slices that have not been measured."""
    done: list[SliceRecord] = field(default_factory=list)
    fault: str | None = None

    def fail(self, error: Exception, place: str = "") -> None:
        """Keep the first reason why it cannot be used."""
        if self.fault is not None:
            return
        # Extractors are foreign code; what one of them cannot digest must neither end the
        # preparation of a thousand other files nor go unmentioned.
        _LOG.debug("extraction of %s failed%s", self.job.recording.name, place, exc_info=error)
        if isinstance(error, UserError):
            self.fault = reason_of(error) + place
        else:
            self.fault = f"extraction failed{place}: {type(error).__name__}: {error}"


@dataclass(frozen=True)
class _Slice:
    """A slice that waits to be measured, together with others."""

    of: _UnderWay
    record: SliceRecord
    stored: Values
    """[T] int16."""


class RecordingExtractor:
    """Extracts recordings into a store.

    Features are measured on the audio as it is stored (16 bit), so that they belong to exactly what
    training hears and come out the same when only some of them are extracted again later.

    Args:
        recipe: how features are made.
        writer: of the store.
        only: features that jobs will ask for; models of others are not loaded.

    Raises:
        UserError: an extractor cannot be built.
    """

    def __init__(
        self, recipe: Recipe, writer: StoreWriter, only: Collection[Feature] = ALL_FEATURES
    ) -> None:
        self._spec = recipe.spec
        self._slicing = dict(recipe.slicing)
        self._batch_s = recipe.batch_s or 0.0
        self._extractors = SliceExtractors(
            recipe.spec,
            recipe.content,
            recipe.pitch,
            recipe.energy,
            recipe.store_mel,
            recipe.perturbation,
            only,
        )
        self._writer = writer

    @property
    def content_grid(self) -> FrameGrid:
        """Where the content encoder's frames lie.

        Raises:
            ValueError: it was made without one.
        """
        if self._extractors.content is None:
            raise ValueError("this extractor has no content encoder")
        return self._extractors.content.grid

    @property
    def on_gpu(self) -> frozenset[Feature]:
        """The features that it computes on a GPU."""
        return self._extractors.on_gpu

    def extract(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Write the arrays of every slice of recordings, and then each one's record.

        Slices go through the extractors together, those of several recordings where they are short,
        at most `batch_s` seconds at once. A recording that cannot be used harms no other.

        Yields:
            How each job ended, in their order.

        Raises:
            StoreWriteError: the store cannot be written.
        """
        under_way: list[_UnderWay] = []
        batch: list[_Slice] = []
        held_s = 0.0
        for job in jobs:
            recording = _UnderWay(job)
            under_way.append(recording)
            for item in self._slices(recording):
                copies = self._extractors.copies_of(job.features)
                item_s = item.record.duration_s * (1 + copies)
                if batch and held_s + item_s > self._batch_s:
                    self._finish_slices(batch)
                    yield from self._ended(under_way)
                    batch, held_s = [], 0.0
                if recording.fault is not None:
                    break
                batch.append(item)
                held_s += item_s
                recording.waiting += 1
            recording.is_cut = True
        self._finish_slices(batch)
        yield from self._ended(under_way)

    def _ended(self, under_way: list[_UnderWay]) -> Iterator[Outcome]:
        """Write the records of recordings that are done with, and take them off the list."""
        while under_way and under_way[0].is_cut and not under_way[0].waiting:
            recording = under_way.pop(0)
            job = recording.job
            if recording.fault is None and not recording.done:
                recording.fault = "no slice of it is long enough"
            if recording.fault is not None:
                yield Outcome(job.recording.name, recording.fault)
                continue
            encoder, before = self._extractors.content, job.previous
            channels = before.content_channels if before else 0
            done = SourceRecord(
                name=job.recording.name,
                speaker=job.recording.speaker,
                sha256=job.sha256,
                fingerprints=dict(job.fingerprints),
                content_channels=encoder.channels if encoder else channels,
                slices=tuple(recording.done),
            )
            self._writer.write_source(done)
            yield Outcome(job.recording.name, done)

    def _slices(self, recording: _UnderWay) -> Iterator[_Slice]:
        """The slices of a recording, whose audio is in the store; its fault where there is one."""
        job = recording.job
        try:
            if "audio" in job.features or job.previous is None:
                self._writer.forget_source(job.recording.name)
                pieces = cut_recording(
                    job.recording.path, job.duration_s, self._spec, self._slicing
                )
                for index, (start, audio) in enumerate(pieces):
                    record, stored = slice_of(
                        job.recording, job.sha256, index, start, audio, self._spec
                    )
                    self._writer.write_array(record.speaker, record.id, "audio", stored)
                    yield _Slice(recording, record, stored)
                return
            # While its arrays change, the record must not promise them, nor once they are half
            # changed and the settings are back to what they were.
            self._writer.write_source(job.previous.keeping(job.fingerprints.keys() - job.features))
            for record in job.previous.slices:
                stored = self._writer.read_array(record.speaker, record.id, "audio")
                yield _Slice(recording, record, stored)
        except StoreWriteError:
            raise
        except Exception as error:
            recording.fail(error)

    def _finish_slices(self, batch: Sequence[_Slice]) -> None:
        """Measure slices together, and write what was found."""
        measured = [
            SliceFeatures(
                item.record.id,
                torch.from_numpy(item.stored.astype(np.float32) / np.float32(AUDIO_FULL_SCALE)),
                item.of.job.features,
            )
            for item in batch
        ]
        self._extractors.measure(measured)
        for item, features in zip(batch, measured, strict=True):
            recording = item.of
            recording.waiting -= 1
            if recording.fault is not None:
                continue
            try:
                if features.fault is not None:
                    raise features.fault
                recording.done.append(self._write_features(item.record, features))
            except StoreWriteError:
                raise
            except Exception as error:
                recording.fail(error, f" (in the slice at {item.record.start_s:.1f} s)")

    def _write_features(self, record: SliceRecord, found: SliceFeatures) -> SliceRecord:
        """Check and write what was found of a slice; the record with what that says about it."""
        if found.content is not None:
            content_rows = self._write(record, "content", found.content.T, np.float16, None)
            record = replace(record, content_frames=content_rows)
        if found.pitch is not None:
            pitch = found.pitch
            signed = torch.where(pitch.voiced, pitch.f0_hz, -pitch.f0_hz)
            self._write(record, "f0", signed, np.float32, record.frames)
            record = with_pitch(record, pitch)
        if found.energy is not None:
            self._write(record, "energy", found.energy, np.float32, record.frames)
        if found.mel is not None:
            self._write(record, "mel", found.mel.T, np.float16, record.frames)
        if found.variants:
            contents = torch.stack([content.T for content in found.variants])
            self._write(record, "variants", contents, np.float16, len(contents))
        return record

    def _write(
        self,
        record: SliceRecord,
        feature: Feature,
        values: Tensor,
        dtype: type[np.floating[Any]],
        rows: int | None,
    ) -> int:
        """Check and write one feature; its number of rows."""
        with np.errstate(over="ignore"):  # found out below
            array = values.detach().cpu().numpy().astype(dtype)
        if rows is not None and array.shape[0] != rows:
            raise UserError(f"{feature} has {array.shape[0]} frames where {rows} were expected")
        if not np.isfinite(array).all():
            raise UserError(f"{feature} holds NaN or numbers too large for {array.dtype}")
        self._writer.write_array(record.speaker, record.id, feature, array)
        return int(array.shape[0])
