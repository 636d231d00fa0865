"""A performance through a singer's glottis and vocal tract: audio."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from svc.data.demo.glottal import closure_times_s, phase_cycles, pulse_spectra
from svc.data.demo.noise import Samples, add_bursts, aspiration_noise
from svc.data.demo.performance import (
    CONTROL_RATE_HZ,
    CONTROL_SAMPLES,
    SAMPLE_RATE_HZ,
    Floats,
    Performance,
    linear,
)
from svc.data.demo.phonemes import PHONEMES, VOWEL_FORMANTS, VOWELS
from svc.data.demo.singers import Singer
from svc.data.demo.vocal_tract import fixed_response, resonances, singer_formants_hz

_FFT = 2048
_BEFORE = 512
"""Samples of a pulse before the closure: the open phase."""
_BATCH = 96
"""Pulses at once: their spectra fit the caches."""
_MEZZO_FORTE = 0.6
_VOWEL_RMS = 0.085
"""Of an average vowel sung mezzo-forte."""
_PEAK = 0.89
_ROOM_RMS = 5e-5


def render(performance: Performance, singer: Singer) -> Samples:
    """The performance as sung by the voice of `singer`.

    Every glottal cycle is one pulse through the vocal tract as it stands at that instant, made in
    the frequency domain and placed at its exact, fractional time: the fundamental follows
    `performance.f0_hz` and nothing aliases. Noise is added behind it.

    Returns:
        [T] float32 at 44.1 kHz, |peak| <= 0.89; a phrase that would exceed it is turned down as
        a whole. The same arguments give the same samples.
    """
    effort_db = 14.0 * (performance.effort - _MEZZO_FORTE)
    out = _voice(performance, singer, effort_db)
    phase = _to_samples(phase_cycles(performance.f0_hz))
    voice = _to_samples(performance.voice_gain)
    modulation = 1.0 + 0.7 * np.minimum(voice, 1.0) * np.cos(np.float32(2.0 * np.pi) * phase)
    # A soft voice is a breathy one: its noise falls less than its tone.
    loudness = _to_samples(_VOWEL_RMS * linear(0.5 * effort_db))
    breathy = np.float32(linear(singer.breathiness_db)) * voice
    level = (breathy + _to_samples(performance.aspiration)) * loudness * modulation
    rng = np.random.default_rng(np.random.SeedSequence([performance.seed, 0]))
    out += aspiration_noise(performance, singer, level, rng)
    add_bursts(out, modulation, loudness, performance, singer)
    # No recording is ever quite silent.
    out += np.float32(_ROOM_RMS) * rng.standard_normal(len(out), dtype=np.float32)
    peak = float(np.abs(out).max(initial=0.0))
    return out * np.float32(min(1.0, _PEAK / max(peak, _PEAK)))


def _to_samples(control: Floats) -> Samples:
    """Contour [K] -> [T], linear between the control points."""
    fractions = np.arange(CONTROL_SAMPLES) / CONTROL_SAMPLES
    samples = control[:-1, None] + np.diff(control)[:, None] * fractions
    return samples.ravel().astype(np.float32)


def _voice(performance: Performance, singer: Singer, effort_db: Floats) -> Samples:
    """[T] the voiced part."""
    closures_s = closure_times_s(performance.f0_hz)
    points = closures_s * CONTROL_RATE_HZ
    grid = np.arange(len(performance.f0_hz), dtype=np.float64)
    gain = np.interp(points, grid, performance.voice_gain * linear(effort_db))
    sounding = gain > 0.0
    points, gain = points[sounding], gain[sounding] * _calibration(singer)

    def at_closures(control: Floats) -> Floats:
        return np.interp(points, grid, control)

    f0_hz = at_closures(performance.f0_hz)
    effort = at_closures(performance.effort)
    formants_hz = np.stack([at_closures(track) for track in performance.formants_hz])
    bandwidths_hz = np.stack([at_closures(track) for track in performance.bandwidths_hz])
    position = closures_s[sounding] * SAMPLE_RATE_HZ
    whole = np.floor(position)
    first = whole.astype(np.int64)
    out = np.zeros(performance.samples + 2 * _FFT, dtype=np.float32)
    for start in range(0, len(points), _BATCH):
        batch = slice(start, start + _BATCH)
        spectra = _voice_spectra(
            _frequencies_hz(),
            f0_hz[batch],
            effort[batch],
            formants_hz[:, batch],
            bandwidths_hz[:, batch],
            singer,
        )
        spectra *= gain[batch, None].astype(np.float32)
        spectra *= _delays((position - whole)[batch])
        pulses = fft.irfft(spectra, _FFT, axis=1) * _pulse_window()
        for pulse, sample in zip(pulses, first[batch], strict=True):
            left = sample - _BEFORE + _FFT
            out[left : left + _FFT] += pulse
    return out[_FFT : _FFT + performance.samples]


def _voice_spectra(
    frequencies_hz: NDArray[np.float32],
    f0_hz: Floats,
    effort: Floats,
    formants_hz: Floats,
    bandwidths_hz: Floats,
    singer: Singer,
) -> NDArray[np.complex64]:
    """[P, bins] spectra of P pulses: glottis and vocal tract of the singer."""
    louder = effort - _MEZZO_FORTE
    spectra = pulse_spectra(
        frequencies_hz,
        f0_hz,
        np.clip(singer.open_quotient - 0.2 * louder, 0.35, 0.9),
        # Effort brightens: two octaves of tilt from mezzo-forte to fortissimo.
        singer.tilt_hz * 2.0 ** (5.0 * louder),
    )
    tract_hz = singer_formants_hz(formants_hz, f0_hz, singer)
    spectra *= resonances(frequencies_hz, tract_hz, singer.bandwidth_scale * bandwidths_hz)
    spectra *= fixed_response(frequencies_hz, singer)
    return spectra


@cache
def _calibration(singer: Singer) -> float:
    """Gain that gives the average vowel an RMS of `_VOWEL_RMS`, mezzo-forte, in mid-range.

    A periodic signal whose cycle has the spectrum S has harmonics of amplitude 2 f0 |S(k f0)|.
    """
    f0_hz = singer.key_hz * 2.0 ** (4.0 / 12.0)
    harmonics_hz = np.arange(f0_hz, 20_000.0, f0_hz).astype(np.float32)
    spectra = _voice_spectra(
        harmonics_hz,
        np.full(len(VOWELS), f0_hz),
        np.full(len(VOWELS), _MEZZO_FORTE),
        VOWEL_FORMANTS[0],
        VOWEL_FORMANTS[1],
        singer,
    )
    gains = np.array([linear(PHONEMES[v].voice_db or 0.0) for v in VOWELS])[:, None]
    power = 2.0 * np.mean(np.sum((f0_hz * gains * np.abs(spectra)) ** 2, axis=1))
    # A spectrum per Hz is SAMPLE_RATE_HZ times that of the sampled pulse.
    return float(_VOWEL_RMS * SAMPLE_RATE_HZ / np.sqrt(power))


@cache
def _frequencies_hz() -> NDArray[np.float32]:
    return np.asarray(fft.rfftfreq(_FFT, 1.0 / SAMPLE_RATE_HZ), dtype=np.float32)


def _delays(fractions: Floats) -> NDArray[np.complex64]:
    """[P, bins] delays by _BEFORE plus a fraction of a sample, [P].

    The phase is linear in the bin, so the table is an outer product of two short ones.
    """
    step = -2.0 * np.pi * (_BEFORE + fractions) / _FFT
    fine = np.exp(1j * np.outer(step, np.arange(32))).astype(np.complex64)
    coarse = np.exp(1j * np.outer(step, 32 * np.arange(_FFT // 64 + 1))).astype(np.complex64)
    table = coarse[:, :, None] * fine[:, None, :]
    return np.asarray(table.reshape(len(fractions), -1)[:, : _FFT // 2 + 1])


@cache
def _pulse_window() -> Samples:
    """[_FFT] fades the ends of a pulse, which the inverse FFT would wrap into each other."""
    window = np.ones(_FFT, dtype=np.float32)
    for edge, fade in ((slice(0, 128), 128), (slice(-1, -513, -1), 512)):
        window[edge] = np.sin(0.5 * np.pi * (np.arange(fade) + 0.5) / fade) ** 2
    return window
