"""Whether more than one voice, or music, is on a recording."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft, ndimage

Floats = NDArray[np.floating]

PEAK_RATE_HZ = 16_000

_WINDOW_SAMPLES = 2048
_HOP_SAMPLES = 768
_LOWEST_HZ, _HIGHEST_HZ = 70.0, 2500.0
_RELATIVE_DB = -40.0
"""Peaks this far below the frame's highest are left out."""
_PROMINENCE_DB = 20.0
"""What a partial stands out of its surroundings (the median within 150 Hz): noise does not."""
_SURROUNDINGS_BINS = 39
_HARMONICS = 8
_TOLERANCE_SEMITONES = 0.7
_HALF_TOLERANCE_SEMITONES = 0.35
"""Around odd multiples of F0 / 2, which a tracker's octave error leaves over."""
_STEADY_SEMITONES = 1.0
"""F0 moves less than this within the window, else its harmonics smear into several peaks."""
_LOUD_DB = 20.0
"""Frames this far below the loud ones are left out: echoes of earlier notes are in them."""


def off_harmonic_shares(
    samples: Floats, f0_hz: Floats, levels_db: Floats, frame_s: float
) -> Floats:
    """Share of the tonal part of a sound that no harmonic of its F0 explains.

    One voice has all of its partials at multiples of its F0; a second voice or an instrument has
    partials of its own. Partials are the peaks of a spectrum over 128 ms that stand out by 20 dB.
    Each counts with the square root of its amplitude, so that a quiet second voice counts as well.
    Only frames that are loud, voiced and steady in pitch are looked at.

    Args:
        samples: [T] at 16 kHz.
        f0_hz: [N], 0 where unvoiced.
        levels_db: [N].
        frame_s: distance of the frames of the last two.

    Returns:
        [P] 0 to 1, one for each frame that could be looked at, of one every 48 ms.
    """
    if len(samples) < _WINDOW_SAMPLES or not len(f0_hz):
        return np.empty(0)
    windows = sliding_window_view(samples, _WINDOW_SAMPLES)[::_HOP_SAMPLES]
    middle_s = (np.arange(len(windows)) * _HOP_SAMPLES + _WINDOW_SAMPLES / 2) / PEAK_RATE_HZ
    at = np.minimum((middle_s / frame_s).astype(np.int64), len(f0_hz) - 1)
    loud = levels_db >= np.percentile(levels_db, 90) - _LOUD_DB
    at_usable = (_steady(f0_hz, frame_s) & loud)[at]
    if not at_usable.any():
        return np.empty(0)
    window = np.hanning(_WINDOW_SAMPLES).astype(np.float32)
    spectra = np.abs(fft.rfft(windows[at_usable] * window, axis=1))
    shares = _off_harmonic(spectra, np.asarray(f0_hz)[at[at_usable]])
    return shares[np.isfinite(shares)]


def _steady(f0_hz: Floats, frame_s: float) -> NDArray[np.bool_]:
    """[N] whether all of the window around a frame is voiced, within a semitone."""
    reach = int(_WINDOW_SAMPLES / 2 / PEAK_RATE_HZ / frame_s)
    semitones = 12 * np.log2(np.maximum(f0_hz, 1e-3))
    around = sliding_window_view(np.pad(semitones, reach, mode="edge"), 2 * reach + 1)
    # An unvoiced frame is 200 semitones away from any voiced one.
    return np.asarray((f0_hz > 0) & (np.ptp(around, axis=1) < _STEADY_SEMITONES))


def _off_harmonic(spectra: Floats, f0_hz: Floats) -> Floats:
    """Magnitudes [P, bins] and F0 [P] -> share [P], NaN where there is no partial."""
    bin_hz = PEAK_RATE_HZ / _WINDOW_SAMPLES
    first, last = int(_LOWEST_HZ / bin_hz), int(_HIGHEST_HZ / bin_hz)
    db = 20 * np.log10(spectra[:, : last + 2] + 1e-9)
    surroundings_db = ndimage.median_filter(db, (1, _SURROUNDINGS_BINS))
    inner = db[:, first : last + 1]
    is_partial = (
        (inner > db[:, first - 1 : last])
        & (inner >= db[:, first + 1 : last + 2])
        & (inner > surroundings_db[:, first : last + 1] + _PROMINENCE_DB)
        & (inner > inner.max(axis=1, keepdims=True) + _RELATIVE_DB)
    )
    frame, column = np.nonzero(is_partial)
    ratio = (first + column) * bin_hz / f0_hz[frame]
    harmonic = np.maximum(np.rint(ratio), 1.0)
    half = np.floor(ratio) + 0.5
    off = (
        (_semitones_between(ratio, harmonic) > _TOLERANCE_SEMITONES)
        & (np.abs(ratio - harmonic) * f0_hz[frame] > 1.5 * bin_hz)
        & (_semitones_between(ratio, half) > _HALF_TOLERANCE_SEMITONES)
    )
    weight = 10 ** (inner[frame, column] / 40) * (harmonic <= _HARMONICS)
    total = np.bincount(frame, weight, len(spectra))
    wrong = np.bincount(frame, weight * off, len(spectra))
    return np.where(total > 0, wrong / np.maximum(total, 1e-30), np.nan)


def _semitones_between(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.abs(12 * np.log2(one / other)))
