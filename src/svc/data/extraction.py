"""One recording -> the arrays of its slices. This is what the workers of a preparation run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.audio.io import iter_audio, read_audio
from svc.audio.mel import MelSpectrogram
from svc.audio.slicing import slice_at_silences
from svc.audio.spec import AudioSpec
from svc.data.augmentation.content import ContentPerturbation
from svc.data.settings import ExtractionSettings, PartFactory
from svc.data.sources import Recording
from svc.data.store import AUDIO_FULL_SCALE, Feature, SliceRecord
from svc.data.store_writer import SourceRecord, StoreWriter, slice_id
from svc.errors import UserError
from svc.features.content.base import ContentEncoder, FrameGrid
from svc.features.energy.base import EnergyExtractor
from svc.features.pitch.base import Pitch, PitchTracker

CLIPPED_LEVEL = 0.999
_QUIETEST_DB = -120.0
_BLOCK_S = 600.0
"""Longer recordings are read and cut in blocks of this length, so that memory stays bounded."""

Values = NDArray[Any]


@dataclass(frozen=True)
class Recipe:
    """How recordings become features: what a preparation is told, and each worker builds from."""

    spec: AudioSpec
    slicing: Mapping[str, Any]
    """Arguments of `slice_at_silences`."""
    content: PartFactory[ContentEncoder]
    pitch: PartFactory[PitchTracker]
    energy: PartFactory[EnergyExtractor]
    store_mel: bool = False
    perturbation: PartFactory[ContentPerturbation] | None = None
    """Makes the audio of the content variants; None where none are stored."""

    def settings(self) -> ExtractionSettings:
        """What determines the features."""
        return ExtractionSettings.of(
            spec=self.spec,
            slicing=self.slicing,
            content=self.content,
            pitch=self.pitch,
            energy=self.energy,
            store_mel=self.store_mel,
            perturbation=self.perturbation,
        )


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


class RecordingExtractor:
    """Extracts recordings into a store.

    Features are measured on the audio as it is stored (16 bit), so that they belong to exactly what
    training hears and come out the same when only some of them are extracted again later.

    16-bit rounding keeps quiet recordings at their level: its noise lies at -101 dB full scale. A
    slice whose peak exceeds full scale (files of floats, overshoot of the resampler) is scaled down
    to it as a whole, and its record keeps the gain.
    """

    def __init__(self, recipe: Recipe, writer: StoreWriter) -> None:
        self._spec = recipe.spec
        self._slicing = dict(recipe.slicing)
        self._content = recipe.content()
        self._pitch = recipe.pitch()
        self._energy = recipe.energy()
        self._mel = MelSpectrogram(recipe.spec) if recipe.store_mel else None
        self._perturbation = recipe.perturbation() if recipe.perturbation else None
        self._writer = writer

    @property
    def content_grid(self) -> FrameGrid:
        """Where the content encoder's frames lie."""
        return self._content.grid

    def extract(self, job: Job) -> SourceRecord:
        """Write the arrays of every slice, then the record.

        Raises:
            AudioFileError: the recording cannot be used.
            UserError: an extractor gave something unusable, or nothing of it is long enough.
            StoreWriteError: the store cannot be written.
        """
        slices = []
        if "audio" in job.features or job.previous is None:
            self._writer.forget_source(job.recording.name)
            for index, (start, audio) in enumerate(self._cut(job)):
                slices.append(self._new_slice(job, index, start, audio))
        else:
            # While its arrays change, the record must not promise them, nor once they are half
            # changed and the settings are back to what they were.
            self._writer.write_source(job.previous.keeping(job.fingerprints.keys() - job.features))
            slices = [self._old_slice(job, record) for record in job.previous.slices]
        if not slices:
            raise UserError("no slice of it is long enough")
        done = SourceRecord(
            name=job.recording.name,
            speaker=job.recording.speaker,
            sha256=job.sha256,
            fingerprints=dict(job.fingerprints),
            content_channels=self._content.channels,
            slices=tuple(slices),
        )
        self._writer.write_source(done)
        return done

    def _cut(self, job: Job) -> Iterator[tuple[int, Tensor]]:
        """Slices as (first sample, audio [N * hop])."""
        spec, path = self._spec, job.recording.path
        if job.duration_s <= 2 * _BLOCK_S:
            audio = read_audio(path, spec.sample_rate_hz)
            for piece in slice_at_silences(audio, spec, **self._slicing):
                yield piece.start_sample, audio[piece.start_sample : piece.stop_sample]
            return
        held, offset = torch.zeros(0), 0
        for block in iter_audio(path, spec.sample_rate_hz, _BLOCK_S):
            held = torch.cat([held, block])
            pieces = slice_at_silences(held, spec, **self._slicing)
            # The last slice may go on in the next block: it is cut again together with that.
            for piece in pieces[:-1]:
                yield offset + piece.start_sample, held[piece.start_sample : piece.stop_sample]
            keep_from = pieces[-1].start_sample if pieces else len(held) // spec.hop_samples
            keep_from -= keep_from % spec.hop_samples
            held, offset = held[keep_from:], offset + keep_from
        for piece in slice_at_silences(held, spec, **self._slicing):
            yield offset + piece.start_sample, held[piece.start_sample : piece.stop_sample]

    def _new_slice(self, job: Job, index: int, start: int, audio: Tensor) -> SliceRecord:
        spec, recording = self._spec, job.recording
        frames = spec.frames(len(audio))
        audio = audio[: frames * spec.hop_samples]
        magnitude = audio.abs()
        peak = float(magnitude.max())
        rms = float(torch.linalg.vector_norm(audio, dtype=torch.float64)) / len(audio) ** 0.5
        gain = 1.0 if peak <= 1.0 else 1.0 / peak
        stored = torch.round(audio * (gain * AUDIO_FULL_SCALE)).to(torch.int16).numpy()
        record = SliceRecord(
            id=slice_id(recording.name, index),
            speaker=recording.speaker,
            source=recording.name,
            source_sha256=job.sha256,
            start_sample=start,
            start_s=round(start / spec.sample_rate_hz, 4),
            duration_s=round(len(audio) / spec.sample_rate_hz, 4),
            frames=frames,
            content_frames=0,
            gain=round(gain, 6),
            rms_db=_decibels(rms * gain),
            peak_db=_decibels(peak * gain),
            clipped_share=round(int((magnitude >= CLIPPED_LEVEL).sum()) / len(audio), 6),
            voiced_share=0.0,
            f0_median_hz=0.0,
            f0_min_hz=0.0,
            f0_max_hz=0.0,
        )
        self._writer.write_array(recording.speaker, record.id, "audio", stored)
        return self._with_features(record, stored, frozenset(job.fingerprints))  # type: ignore[arg-type]

    def _old_slice(self, job: Job, record: SliceRecord) -> SliceRecord:
        stored = self._writer.read_array(record.speaker, record.id, "audio")
        return self._with_features(record, stored, job.features)

    def _with_features(
        self, record: SliceRecord, stored: Values, features: frozenset[Feature]
    ) -> SliceRecord:
        """Extract and write `features` of a slice; the record with what they say about it."""
        audio = torch.from_numpy(stored.astype(np.float32) / np.float32(AUDIO_FULL_SCALE))
        if "content" in features:
            content = self._content.encode(audio, self._spec.sample_rate_hz)
            content_rows = self._write(record, "content", content.T, np.float16, None)
            record = replace(record, content_frames=content_rows)
        if "f0" in features:
            pitch = self._pitch.track(audio, self._spec.sample_rate_hz, self._spec.hop_samples)
            signed = torch.where(pitch.voiced, pitch.f0_hz, -pitch.f0_hz)
            self._write(record, "f0", signed, np.float32, record.frames)
            record = _with_pitch(record, pitch)
        if "energy" in features:
            energy = self._energy.measure(audio, self._spec.hop_samples)
            self._write(record, "energy", energy, np.float32, record.frames)
        if "mel" in features and self._mel is not None:
            self._write(record, "mel", self._mel(audio).T, np.float16, record.frames)
        if "variants" in features and self._perturbation is not None:
            copies = self._perturbation.variants_of(audio, self._spec.sample_rate_hz, record.id)
            contents = [self._content.encode(copy, self._spec.sample_rate_hz).T for copy in copies]
            self._write(record, "variants", torch.stack(contents), np.float16, len(contents))
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
        array = values.detach().cpu().numpy().astype(dtype)
        if rows is not None and array.shape[0] != rows:
            raise UserError(f"{feature} has {array.shape[0]} frames where {rows} were expected")
        if not np.isfinite(array).all():
            raise UserError(f"{feature} holds NaN or numbers too large for {array.dtype}")
        self._writer.write_array(record.speaker, record.id, feature, array)
        return int(array.shape[0])


def _with_pitch(record: SliceRecord, pitch: Pitch) -> SliceRecord:
    voiced_hz = pitch.f0_hz[pitch.voiced].double()
    found = [voiced_hz.median(), voiced_hz.min(), voiced_hz.max()] if len(voiced_hz) else [0.0] * 3
    median, low, high = (round(float(value), 2) for value in found)
    return replace(
        record,
        voiced_share=round(float(pitch.voiced.double().mean()), 4),
        f0_median_hz=median,
        f0_min_hz=low,
        f0_max_hz=high,
    )


def _decibels(level: float) -> float:
    return round(max(20 * float(np.log10(max(level, 1e-6))), _QUIETEST_DB), 2)
