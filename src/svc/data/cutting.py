"""One recording -> the audio of its slices, as it is stored, and what the manifest says of it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.audio.io import iter_audio, read_audio
from svc.audio.slicing import slice_at_silences
from svc.audio.spec import AudioSpec
from svc.data.sources import Recording
from svc.data.store import AUDIO_FULL_SCALE, SliceRecord
from svc.data.store_writer import slice_id
from svc.features.pitch.base import Pitch

CLIPPED_LEVEL = 0.999
_QUIETEST_DB = -120.0
_BLOCK_S = 600.0
"""Longer recordings are read and cut in blocks of this length, so that memory stays bounded."""

Values = NDArray[Any]


def cut_recording(
    path: Path, duration_s: float, spec: AudioSpec, slicing: Mapping[str, Any]
) -> Iterator[tuple[int, Tensor]]:
    """The slices of a recording, in order.

    Args:
        path: of the recording.
        duration_s: of the recording.
        spec: framing.
        slicing: arguments of `slice_at_silences`.

    Yields:
        First sample, at the rate of `spec`, and audio [N * hop].

    Raises:
        AudioFileError: it cannot be used.
    """
    if duration_s <= 2 * _BLOCK_S:
        audio = read_audio(path, spec.sample_rate_hz)
        for piece in slice_at_silences(audio, spec, **slicing):
            yield piece.start_sample, audio[piece.start_sample : piece.stop_sample]
        return
    held, offset = torch.zeros(0), 0
    for block in iter_audio(path, spec.sample_rate_hz, _BLOCK_S):
        held = torch.cat([held, block])
        pieces = slice_at_silences(held, spec, **slicing)
        # The last slice may go on in the next block: it is cut again together with that.
        for piece in pieces[:-1]:
            yield offset + piece.start_sample, held[piece.start_sample : piece.stop_sample]
        keep_from = pieces[-1].start_sample if pieces else len(held) // spec.hop_samples
        keep_from -= keep_from % spec.hop_samples
        held, offset = held[keep_from:], offset + keep_from
    for piece in slice_at_silences(held, spec, **slicing):
        yield offset + piece.start_sample, held[piece.start_sample : piece.stop_sample]


def slice_of(
    recording: Recording, sha256: str, index: int, start: int, audio: Tensor, spec: AudioSpec
) -> tuple[SliceRecord, Values]:
    """A slice's record, without what its features say, and its audio [T] int16 as it is stored.

    16-bit rounding keeps quiet recordings at their level: its noise lies at -101 dB full scale. A
    slice whose peak exceeds full scale (files of floats, overshoot of the resampler) is scaled down
    to it as a whole, and its record keeps the gain.

    Args:
        recording: that it is cut out of.
        sha256: of the recording's bytes.
        index: its number in the recording.
        start: its first sample.
        audio: [T] float32.
        spec: framing.
    """
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
        source_sha256=sha256,
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
    return record, stored


def with_pitch(record: SliceRecord, pitch: Pitch) -> SliceRecord:
    """The record with what the contour says."""
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
