"""Turbulence: aspiration through the whole tract, frication and bursts in the mouth."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from svc.data.demo.performance import (
    CONTROL_SAMPLES,
    SAMPLE_RATE_HZ,
    Floats,
    NoiseBurst,
    Performance,
    linear,
)
from svc.data.demo.phonemes import PHONEMES, VOWEL_FORMANTS, NoiseShape
from svc.data.demo.singers import Singer
from svc.data.demo.vocal_tract import fixed_response, resonances, singer_formants_hz

Samples = NDArray[np.float32]

_WINDOW = 1024
_HOP = _WINDOW // 4
_WIDENING = 1.4
"""An open glottis damps the tract: formants of aspiration are that much wider."""


def aspiration_noise(
    performance: Performance, singer: Singer, level: Samples, rng: np.random.Generator
) -> Samples:
    """[T] white noise of RMS `level` [T], coloured by the moving vocal tract.

    The mean RMS over the vowels is `level`; close vowels come out softer, open ones louder.
    Filtering is by overlap-add of short spectra, the tract standing still within each.
    """
    noise = rng.standard_normal(performance.samples, dtype=np.float32) * level
    pad = _WINDOW - _HOP
    tail = -performance.samples % _HOP
    padded = np.pad(noise, (pad, pad + tail))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    # Frame m is centred on sample _HOP * m - pad + _WINDOW / 2.
    centres = _HOP * np.arange(len(frames)) - pad + _WINDOW // 2
    points = np.clip(centres // CONTROL_SAMPLES, 0, len(performance.f0_hz) - 1)
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32) * np.float32(0.5)
    response = _aspiration_response(
        performance.formants_hz[:, points], performance.bandwidths_hz[:, points], singer
    )
    spectra = fft.rfft(frames * window, axis=1) * (response / _vowel_rms(singer))
    filtered = fft.irfft(spectra, _WINDOW, axis=1).astype(np.float32)
    out = np.zeros((len(frames) + 3, _HOP), dtype=np.float32)
    for quarter in range(4):
        out[quarter : quarter + len(frames)] += filtered[:, quarter * _HOP : (quarter + 1) * _HOP]
    return out.ravel()[pad : pad + performance.samples]


def add_bursts(
    out: Samples, modulation: Samples, gain: Samples, performance: Performance, singer: Singer
) -> None:
    """Add all frication and bursts to out [T] in place.

    Each has a noise stream of its own, so that none depends on the others.

    Args:
        out: [T].
        modulation: [T] by the glottal cycle, 1 where unvoiced.
        gain: [T] linear.
        performance: whose bursts to render.
        singer: whose front cavity and sibilance to use.
    """
    seeds = np.random.SeedSequence([performance.seed, 1]).spawn(len(performance.bursts))
    for burst, seed in zip(performance.bursts, seeds, strict=True):
        start, stop = max(burst.start_sample, 0), min(burst.stop_sample, performance.samples)
        if stop <= start:
            continue
        white = np.random.default_rng(seed).standard_normal(stop - start, dtype=np.float32)
        white *= modulation[start:stop] * gain[start:stop] * _envelope(burst, stop - start)
        shaped = _filter(white, PHONEMES[burst.symbol].noise, singer)
        level_db = PHONEMES[burst.symbol].noise_db + singer.sibilance_db
        # The filter is centred: half of its length sticks out on each side.
        left = start - (len(shaped) - (stop - start)) // 2
        low, high = max(left, 0), min(left + len(shaped), performance.samples)
        out[low:high] += np.float32(linear(level_db)) * shaped[low - left : high - left]


def _aspiration_response(
    formants_hz: Floats, bandwidths_hz: Floats, singer: Singer
) -> NDArray[np.complex64]:
    """[N, bins] of the tract and of the noise source, which is weak at low frequencies."""
    frequencies_hz = fft.rfftfreq(_WINDOW, 1.0 / SAMPLE_RATE_HZ).astype(np.float32)
    tract = resonances(
        frequencies_hz,
        singer_formants_hz(formants_hz, np.zeros(formants_hz.shape[1]), singer),
        _WIDENING * singer.bandwidth_scale * bandwidths_hz,
    )
    source = frequencies_hz / (frequencies_hz + np.float32(800.0))
    return np.asarray(tract * fixed_response(frequencies_hz, singer) * source)


def _vowel_rms(singer: Singer) -> float:
    """RMS of white noise of RMS 1 behind `_aspiration_response`, over all vowels."""
    response = _aspiration_response(VOWEL_FORMANTS[0], VOWEL_FORMANTS[1], singer)
    return float(np.sqrt(np.mean(np.abs(response) ** 2)))


def _envelope(burst: NoiseBurst, samples: int) -> Samples:
    """[samples] raised-cosine attack and release."""
    attack = max(int(burst.attack_s * SAMPLE_RATE_HZ), 1)
    release = max(int(burst.release_s * SAMPLE_RATE_HZ), 1)
    position = np.arange(samples, dtype=np.float32) + 0.5
    rise = np.minimum(position / attack, 1.0)
    fall = np.minimum((samples - position) / release, 1.0)
    envelope = np.sin(0.5 * np.pi * rise) ** 2 * np.sin(0.5 * np.pi * fall) ** 2
    return np.asarray(envelope, dtype=np.float32)


_TAPS = 256


def _filter(white: Samples, shape: NoiseShape | None, singer: Singer) -> Samples:
    """White noise of RMS 1 -> noise of that spectrum and RMS 1, _TAPS longer."""
    if shape is None:
        raise ValueError("a burst needs a phoneme with a noise shape.")
    frequencies_hz = np.maximum(fft.rfftfreq(_TAPS, 1.0 / SAMPLE_RATE_HZ), 20.0)
    magnitude = np.full(len(frequencies_hz), linear(shape.floor_db))
    for centre_hz, octaves, height_db in shape.bells:
        # The cavity in front of a constriction shrinks with the whole tract.
        distance = np.log2(frequencies_hz / (centre_hz * singer.formant_scale)) / octaves
        magnitude += linear(height_db) * np.exp(-0.5 * distance**2)
    magnitude[frequencies_hz > 20_000.0] = 0.0
    taps = np.roll(fft.irfft(magnitude, _TAPS), _TAPS // 2) * np.hanning(_TAPS)
    taps /= np.sqrt(np.sum(taps**2))
    length = len(white) + _TAPS
    size = fft.next_fast_len(length, real=True)
    product = fft.rfft(white, size) * fft.rfft(taps.astype(np.float32), size)
    return np.asarray(fft.irfft(product, size)[:length], dtype=np.float32)
