"""Another tempo at the same pitch: WSOLA.

Verhelst and Roelands 1993, "An overlap-add technique based on waveform similarity (WSOLA) for high
quality time-scale modification of speech". Segments of the input are laid over each other at
another distance than they were cut at; each is cut from where it best continues the one before it,
so that the periods of a voice fall on each other. It keeps the waveform of single voices, where a
phase vocoder smears it.
"""

import numpy as np
from numpy.typing import NDArray

_SEGMENT_SAMPLES = 2048
_STEP_SAMPLES = 1024
"""Half a segment: Hann windows at this distance add up to 1."""

REACH_SAMPLES = 400
"""How far a segment may be cut from its place: half a period of 55 Hz."""

MARGIN_SAMPLES = _SEGMENT_SAMPLES + REACH_SAMPLES
"""Input that has to follow the last place, and that the beginning takes to become exact."""

_STRAY_PENALTY = 0.05
"""Correlation that a place at the far end of the reach must be better by: of several periods that
fit equally well the nearest is taken, and noise stays where it is."""


def stretched(audio: NDArray[np.float32], rate: float, samples: int) -> NDArray[np.float32]:
    """Sample n of the result comes from around n * rate.

    A segment's middle comes from within `REACH_SAMPLES` of where it belongs; a segment itself runs
    at its own speed, which at its quarters makes up to 512 * |1 - rate| samples more.

    Args:
        audio: [T] with T >= samples * rate + MARGIN_SAMPLES.
        rate: how many times as fast, from 0.5 to 2; 1 returns the input as it is.
        samples: length of the result.

    Returns:
        [samples]. The first half segment fades in.
    """
    if rate == 1.0:
        return audio[:samples]
    steps = -(-samples // _STEP_SAMPLES)
    window = np.hanning(_SEGMENT_SAMPLES + 1)[:-1].astype(np.float32)
    laid = np.zeros((steps + 1) * _STEP_SAMPLES, dtype=np.float32)
    # Zeros before the beginning let the first segments be searched like the others.
    before = MARGIN_SAMPLES
    padded = np.pad(audio, (before, MARGIN_SAMPLES + _SEGMENT_SAMPLES))
    half = _SEGMENT_SAMPLES // 2
    at = before + round(half * rate) - half
    for step in range(steps):
        if step:
            place = before + round((step * _STEP_SAMPLES + half) * rate) - half
            natural = padded[at + _STEP_SAMPLES : at + 2 * _STEP_SAMPLES]
            region = padded[place - REACH_SAMPLES : place + REACH_SAMPLES + _STEP_SAMPLES]
            at = place + _best_offset(region, natural)
        segment = padded[at : at + _SEGMENT_SAMPLES]
        start = step * _STEP_SAMPLES
        laid[start : start + _SEGMENT_SAMPLES] += window * segment
    return laid[:samples]


def _best_offset(region: NDArray[np.float32], natural: NDArray[np.float32]) -> int:
    """Where in `region`, counted from its middle, it is most like `natural`.

    Args:
        region: [2 * REACH_SAMPLES + step].
        natural: [step], the continuation of what has been laid.
    """
    size = 2048  # no lag that is looked at wraps around
    spectrum = np.fft.rfft(region, size) * np.conj(np.fft.rfft(natural, size))
    correlation = np.fft.irfft(spectrum, size)[: 2 * REACH_SAMPLES + 1]
    power = np.concatenate([[0.0], np.cumsum(region.astype(np.float64) ** 2)])
    energy = power[len(natural) :] - power[: -len(natural)]
    scale = np.sqrt(energy * float(natural.astype(np.float64) @ natural)) + 1e-9
    strayed = np.abs(np.arange(-REACH_SAMPLES, REACH_SAMPLES + 1)) / REACH_SAMPLES
    return int(np.argmax(correlation / scale - _STRAY_PENALTY * strayed)) - REACH_SAMPLES
