"""Recordings of which everything that the doctor measures is known."""

from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from svc.data.demo.phrases import training_phrase
from svc.data.demo.singers import SINGERS
from svc.data.sources import Recording
from svc.doctor.recordings import Examined, examine_recording

RATE_HZ = 44_100
Samples = NDArray[np.floating]


@cache
def _sung(singer: int, index: int, seconds: float) -> Samples:
    phrase = training_phrase(11, index, SINGERS[singer], phrase_s=(seconds, seconds))
    return phrase.audio.numpy().astype(np.float64)


def sung(singer: int = 0, index: int = 0, seconds: float = 5.0) -> Samples:
    """A phrase of a synthetic singer, dry, about `seconds` long, with a noise floor of -86 dBFS."""
    return _sung(singer, index, seconds).copy()


def noise(samples: int, level_db: float, seed: int = 0) -> Samples:
    """White noise with an RMS of `level_db` relative to full scale."""
    return 10 ** (level_db / 20) * np.random.default_rng(seed).standard_normal(samples)


def in_a_room(audio: Samples, rt60_s: float) -> Samples:
    """With an echo, 6 dB below the direct sound, that decays by 60 dB in `rt60_s`."""
    times_s = np.arange(round(1.2 * rt60_s * RATE_HZ)) / RATE_HZ
    tail = np.random.default_rng(1).standard_normal(len(times_s)) * 10 ** (-3 * times_s / rt60_s)
    tail *= 0.5 / np.sqrt(np.sum(tail**2))
    tail[0] += 1
    return 0.7 * fftconvolve(audio, tail)


def chords(samples: int, like: Samples, relative_db: float) -> Samples:
    """Piano-like chords, one a second, `relative_db` louder than `like`."""
    rng = np.random.default_rng(5)
    out = np.zeros(samples)
    for start in range(0, samples, RATE_HZ):
        times_s = np.arange(min(RATE_HZ, samples - start)) / RATE_HZ
        for midi in rng.choice([45, 48, 52, 55, 57, 60, 64, 67], 3, replace=False):
            f0_hz = 440 * 2 ** ((midi - 69) / 12)
            for harmonic in range(1, 6):
                partial = np.sin(2 * np.pi * f0_hz * harmonic * times_s) / harmonic
                out[start : start + len(times_s)] += partial * np.exp(-2 * times_s)
    wanted = np.mean(like**2) * 10 ** (relative_db / 10)
    return out * np.sqrt(wanted / np.mean(out**2))


def save(
    path: Path, audio: Samples, rate_hz: int = RATE_HZ, subtype: str | None = "PCM_16"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate_hz, subtype=subtype if path.suffix == ".wav" else None)
    return path


def examined(path: Path, audio: Samples, rate_hz: int = RATE_HZ) -> Examined:
    """What the doctor measures on the audio, written to `path` first."""
    return examine_recording(Recording(save(path, audio, rate_hz), "someone", path.name))
