"""One pass over a recording: what the measures are taken from, frame by frame.

Legend: N frames of 512 samples at 44.1 kHz, K bands of 258 Hz, P frames of a longer window.
"""

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import parselmouth
import soxr
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft
from torch import Tensor

from svc.audio.io import iter_audio
from svc.audio.levels import Levels, frame_levels_db
from svc.audio.spec import AudioSpec
from svc.doctor.voices import PEAK_RATE_HZ, off_harmonic_shares
from svc.features.pitch.contour import on_frames
from svc.features.pitch.parselmouth import ParselmouthPitch

Floats = NDArray[np.floating]

SPEC = AudioSpec()
FRAME_S = 1 / SPEC.frame_rate_hz
F0_MIN_HZ, F0_MAX_HZ = 50.0, 1250.0
"""Searched by both trackers; song and speech lie within."""
BAND_BINS = 12
BANDS = SPEC.window_samples // 2 // BAND_BINS
BAND_HZ = BAND_BINS * SPEC.sample_rate_hz / SPEC.window_samples
"""Width of a band: band k covers k * BAND_HZ to (k + 1) * BAND_HZ."""
FINGERPRINT_EDGES_HZ = np.geomspace(300, 3000, 18)

_BLOCK_S = 60.0
_CHUNK_FRAMES = 1024


@dataclass(frozen=True)
class Frames:
    """What is known of a recording, frame by frame."""

    levels_db: Levels
    """[N] RMS, dB relative to full scale."""
    band_power: Floats
    """[N, K] float32: mean square of the signal in each band; a full-scale sine gives 0.5."""
    fingerprint_power: Floats
    """[N, 17] float32: the same in bands of equal width in octaves, 300 to 3000 Hz."""
    f0_hz: Floats
    """[N] by Praat's autocorrelation method, 0 where unvoiced."""
    second_f0_hz: Floats
    """[N] by subharmonic summation, another principle; it knows no unvoiced frames."""
    off_harmonic: Floats
    """[P] share of the tonal part that no harmonic of F0 explains (`svc.doctor.voices`)."""


def frames_of(path: Path) -> Frames:
    """Analyse a recording of any length in blocks of a minute.

    Memory is 0.4 KB a frame: 130 MB for an hour.

    Raises:
        AudioFileError: it cannot be read.
    """
    blocks = [_analyse(block) for block in iter_audio(path, SPEC.sample_rate_hz, _BLOCK_S)]
    return Frames(
        **{
            field.name: np.concatenate([getattr(block, field.name) for block in blocks])
            for field in fields(Frames)
        }
    )


def band_levels_db(power: Floats) -> Floats:
    """Powers of bands in dB relative to full scale, of any shape; floored at -140 dB."""
    return 10 * np.log10(np.maximum(power, 1e-14))


def _analyse(audio: Tensor) -> Frames:
    """audio [T] at 44.1 kHz -> N = T // 512 frames."""
    samples = audio.numpy()
    frames = SPEC.frames(len(samples))
    bands, fingerprint = _powers(samples, frames)
    levels_db = frame_levels_db(audio, SPEC)
    pitch = ParselmouthPitch(F0_MIN_HZ, F0_MAX_HZ).track(
        audio, SPEC.sample_rate_hz, SPEC.hop_samples
    )
    f0_hz = np.where(pitch.voiced.numpy(), pitch.f0_hz.numpy(), 0.0)
    low_rate = soxr.resample(samples, SPEC.sample_rate_hz, PEAK_RATE_HZ)
    return Frames(
        levels_db=levels_db,
        band_power=bands,
        fingerprint_power=fingerprint,
        f0_hz=f0_hz,
        second_f0_hz=_subharmonic_summation(low_rate, frames),
        off_harmonic=off_harmonic_shares(low_rate, f0_hz, levels_db, FRAME_S),
    )


def _powers(samples: Floats, frames: int) -> tuple[Floats, Floats]:
    """Power in the linear bands and in those of the fingerprint, [N, K] and [N, 17]."""
    size = SPEC.window_samples
    side = (size - SPEC.hop_samples) // 2
    padded = np.pad(samples, (side, side + SPEC.hop_samples))
    windows = sliding_window_view(padded, size)[:: SPEC.hop_samples][:frames]
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    scale = np.float32(2 / (size * np.sum(window**2)))
    bands = np.empty((frames, BANDS), np.float32)
    fingerprint = np.empty((frames, len(FINGERPRINT_EDGES_HZ) - 1), np.float32)
    for start in range(0, frames, _CHUNK_FRAMES):
        rows = slice(start, start + _CHUNK_FRAMES)
        spectra = fft.rfft(windows[rows] * window, axis=1)
        power = scale * (spectra.real**2 + spectra.imag**2)
        used = power[:, : BANDS * BAND_BINS]
        bands[rows] = used.reshape(len(power), BANDS, BAND_BINS).sum(axis=2)
        fingerprint[rows] = power @ _fingerprint_bands()
    return bands, fingerprint


@cache
def _fingerprint_bands() -> Floats:
    """[bins, 17] triangles over neighbouring edges."""
    bins_hz = fft.rfftfreq(SPEC.window_samples, 1 / SPEC.sample_rate_hz)
    position = np.interp(bins_hz, FINGERPRINT_EDGES_HZ, np.arange(len(FINGERPRINT_EDGES_HZ)))
    centres = np.arange(len(FINGERPRINT_EDGES_HZ) - 1) + 0.5
    inside = (bins_hz >= FINGERPRINT_EDGES_HZ[0]) & (bins_hz <= FINGERPRINT_EDGES_HZ[-1])
    weights = np.maximum(0, 1 - np.abs(position[:, None] - centres)) * inside[:, None]
    return np.asarray(weights, dtype=np.float32)


def _subharmonic_summation(samples: Floats, frames: int) -> Floats:
    """[N] F0 by Hermes, "Measurement of pitch by subharmonic summation" (1988), in Praat.

    It adds up the spectrum at the multiples of every candidate, so that what misleads an
    autocorrelation (a second voice, echoes, hum) rarely misleads it in the same way.
    """
    if np.ptp(samples) == 0:
        return np.zeros(frames)
    try:
        pitch = parselmouth.Sound(samples.astype(np.float64), PEAK_RATE_HZ).to_pitch_shs(
            time_step=FRAME_S, minimum_pitch=F0_MIN_HZ, ceiling=F0_MAX_HZ
        )
    except parselmouth.PraatError:  # shorter than its window
        return np.zeros(frames)
    f0_hz, _ = on_frames(pitch.selected_array["frequency"], pitch.dx, pitch.x1, frames, FRAME_S)
    return f0_hz
