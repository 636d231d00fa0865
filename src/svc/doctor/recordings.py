"""Every measure on every recording of a folder, in parallel; one bad file stops nothing."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from svc.audio.io import AudioFileError, probe
from svc.audio.slicing import MIN_RECORDING_S
from svc.data.process_pool import count_workers, run_in_processes
from svc.data.report import SkippedFile, reason_of
from svc.data.sources import Recording
from svc.doctor import measures
from svc.doctor.duplicates import Duplicate, Fingerprint, find_duplicates, fingerprint
from svc.doctor.frames import FRAME_S, Frames, frames_of
from svc.doctor.measures import Bandwidth, F0Range
from svc.doctor.reverberation import decay_times_s, reverberation_s
from svc.errors import UserError

_LOG = logging.getLogger(__name__)

_PLACE_S = 3.0


@dataclass(frozen=True)
class Examined:
    """What is known of one recording. None means that it cannot be told."""

    recording: Recording
    duration_s: float
    sample_rate_hz: int
    """Of the file."""
    channels: int
    format: str
    bandwidth: Bandwidth
    clipped_share: float
    peak_db: float
    level_db: float
    """Of what is not silent, dB relative to full scale, as all levels."""
    noise_floor_db: float | None
    decays_s: tuple[float, ...]
    reverberation_s: float | None
    silence_share: float
    several_voices: float | None
    f0: F0Range
    disagreement: float | None
    fingerprint: Fingerprint
    places_s: dict[str, float]
    """Where to listen: start of the `loudest`, `quietest` and most `doubtful` three seconds."""

    @property
    def signal_to_noise_db(self) -> float | None:
        """How far the voice lies above the noise."""
        return None if self.noise_floor_db is None else self.level_db - self.noise_floor_db


@dataclass(frozen=True)
class Examination:
    """What is known of a dataset."""

    source: str
    files: tuple[Examined, ...]
    """Sorted by name."""
    unusable: tuple[SkippedFile, ...]
    too_short: tuple[SkippedFile, ...]
    duplicates: tuple[Duplicate, ...]
    """Indices are those of `files`."""


def examine(
    source: str,
    recordings: Sequence[Recording],
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Examination:
    """Measure every recording.

    Args:
        source: what the dataset is called.
        recordings: of the dataset.
        workers: processes; None for one per core, or none where there is little to do.
        progress: called with how many recordings are done and how many there are.

    Raises:
        UserError: a worker process died.
    """
    outcomes: list[Examined | SkippedFile] = []
    for outcome in _outcomes(recordings, workers):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), len(recordings))
    files = sorted(
        (o for o in outcomes if isinstance(o, Examined)), key=lambda file: file.recording.name
    )
    faults = sorted((o for o in outcomes if isinstance(o, SkippedFile)), key=lambda f: f.name)
    return Examination(
        source,
        tuple(files),
        tuple(fault for fault in faults if not fault.reason.startswith("shorter")),
        tuple(fault for fault in faults if fault.reason.startswith("shorter")),
        tuple(find_duplicates([file.fingerprint for file in files])),
    )


def examine_recording(recording: Recording) -> Examined:
    """Measure one recording.

    Raises:
        AudioFileError: it cannot be used, or is shorter than 0.5 s.
    """
    info = probe(recording.path)
    if info.duration_s < MIN_RECORDING_S:
        reason = (
            f"shorter than {MIN_RECORDING_S:g} s ({info.duration_s:.2f} s): preparation leaves it "
            f"out; join it with others of the same speaker"
        )
        raise AudioFileError(recording.path, "too short", reason)
    clipped, peak_db = measures.clipped_share(recording.path)
    frames = frames_of(recording.path)
    decays_s = decay_times_s(frames.band_power)
    return Examined(
        recording=recording,
        duration_s=info.duration_s,
        sample_rate_hz=info.sample_rate_hz,
        channels=info.channels,
        format=f"{info.format} {info.subtype}",
        bandwidth=measures.bandwidth(frames.band_power),
        clipped_share=clipped,
        peak_db=peak_db,
        level_db=measures.active_level_db(frames.levels_db),
        noise_floor_db=measures.noise_floor_db(frames.levels_db, frames.f0_hz),
        decays_s=tuple(decays_s),
        reverberation_s=reverberation_s(decays_s),
        silence_share=measures.silence_share(frames.levels_db),
        several_voices=measures.several_voices(frames.off_harmonic),
        f0=measures.f0_range(frames.f0_hz),
        disagreement=measures.tracker_disagreement(frames.f0_hz, frames.second_f0_hz),
        fingerprint=fingerprint(recording.path, frames.fingerprint_power, frames.levels_db),
        places_s=_places_s(frames),
    )


def _places_s(frames: Frames) -> dict[str, float]:
    """Where a listener should look for what a measure complains of."""
    span = max(1, min(len(frames.levels_db), round(_PLACE_S / FRAME_S)))
    power = 10.0 ** (frames.levels_db / 10)
    apart = np.abs(np.log2(np.maximum(frames.second_f0_hz, 1) / np.maximum(frames.f0_hz, 1)))
    doubtful = (frames.f0_hz > 0) & (apart > 50 / 1200)
    kernel = np.ones(span)
    loudness, doubt = (np.convolve(x, kernel, "valid") for x in (power, doubtful.astype(float)))
    starts = {
        "loudest": loudness.argmax(),
        "quietest": loudness.argmin(),
        "doubtful": doubt.argmax(),
    }
    return {name: round(float(frame) * FRAME_S, 2) for name, frame in starts.items()}


def _outcomes(
    recordings: Sequence[Recording], workers: int | None
) -> Iterator[Examined | SkippedFile]:
    """What became of every recording, in any order."""
    audio_s = _seconds(recordings) if workers is None else 0.0
    workers = count_workers(workers, "workers", len(recordings), audio_s)
    if workers == 1:
        return (_outcome(recording) for recording in recordings)
    return run_in_processes(_outcome, recordings, workers, "workers")


def _seconds(recordings: Sequence[Recording]) -> float:
    """At least this much audio there is; files that cannot be read count nothing."""
    seconds = 0.0
    for recording in recordings:
        try:
            seconds += probe(recording.path).duration_s
        except AudioFileError:
            continue
    return seconds


def _outcome(recording: Recording) -> Examined | SkippedFile:
    try:
        return examine_recording(recording)
    except UserError as error:
        return SkippedFile(recording.name, reason_of(error))
    except Exception as error:
        # Decoders and Praat are foreign code: what one of them cannot digest is told of like any
        # other bad file, and the others go on.
        _LOG.debug("examining %s failed", recording.name, exc_info=True)
        return SkippedFile(
            recording.name, f"could not be examined: {type(error).__name__}: {error}"
        )
