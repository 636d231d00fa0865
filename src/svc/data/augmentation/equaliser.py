"""A random parametric equaliser: the timbre of another voice, body or microphone.

Two shelves and eight peaks, as NANSY has it (Choi et al. 2021, appendix on the perturbation
functions); the filters are those of Bristow-Johnson's "Audio EQ Cookbook".
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import sosfilt

_LOWEST_HZ, _HIGHEST_HZ = 60.0, 10_000.0
_PEAKS = 8
_LEAST_Q, _MOST_Q = 2.0, 5.0


@dataclass(frozen=True)
class Band:
    """One filter."""

    kind: Literal["low shelf", "peak", "high shelf"]
    frequency_hz: float
    """Middle of a peak, middle of a shelf's slope."""
    gain_db: float
    q: float


def drawn_bands(rng: np.random.Generator, max_db: float) -> list[Band]:
    """A low shelf at 60 Hz, a high shelf at 10 kHz, eight peaks between them, logarithmically even.

    Gains are uniform from -max_db to max_db; Q is logarithmically uniform from 2 to 5.
    """
    frequencies_hz = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _PEAKS + 2)
    gains_db = rng.uniform(-max_db, max_db, len(frequencies_hz))
    qs = _LEAST_Q * (_MOST_Q / _LEAST_Q) ** rng.random(len(frequencies_hz))
    kinds: list[Literal["low shelf", "peak", "high shelf"]] = ["peak"] * len(frequencies_hz)
    kinds[0], kinds[-1] = "low shelf", "high shelf"
    return [
        Band(kind, float(frequency_hz), float(gain_db), float(q))
        for kind, frequency_hz, gain_db, q in zip(kinds, frequencies_hz, gains_db, qs, strict=True)
    ]


def equalised(
    audio: NDArray[np.float64], sample_rate_hz: int, bands: list[Band]
) -> NDArray[np.float64]:
    """audio [T] through all bands, [T]; those above 0.45 of the sample rate are left out."""
    sections = [
        _biquad(band, sample_rate_hz) for band in bands if band.frequency_hz < 0.45 * sample_rate_hz
    ]
    filtered: NDArray[np.float64] = sosfilt(np.array(sections), audio)
    return filtered


def _biquad(band: Band, sample_rate_hz: int) -> list[float]:
    """[b0, b1, b2, 1, a1, a2] of the cookbook."""
    amplitude = 10 ** (band.gain_db / 40)
    angle = 2 * np.pi * band.frequency_hz / sample_rate_hz
    cosine, alpha = np.cos(angle), np.sin(angle) / (2 * band.q)
    if band.kind == "peak":
        b = [1 + alpha * amplitude, -2 * cosine, 1 - alpha * amplitude]
        a = [1 + alpha / amplitude, -2 * cosine, 1 - alpha / amplitude]
    else:
        # The two shelves mirror each other: the sign of every cosine turns.
        side = -1.0 if band.kind == "high shelf" else 1.0
        plus, minus = amplitude + 1, amplitude - 1
        slope = 2 * np.sqrt(amplitude) * alpha
        b = [
            amplitude * (plus - side * minus * cosine + slope),
            2 * side * amplitude * (minus - side * plus * cosine),
            amplitude * (plus - side * minus * cosine - slope),
        ]
        a = [
            plus + side * minus * cosine + slope,
            -2 * side * (minus + side * plus * cosine),
            plus + side * minus * cosine - slope,
        ]
    return [float(value / a[0]) for value in (*b, *a)]
