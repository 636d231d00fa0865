"""What the synthetic voices promise: exact F0, formants in place, no clicks, exact parallels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.demo.glottal import closure_times_s, phase_cycles
from svc.data.demo.performance import CONTROL_RATE_HZ, CONTROL_SAMPLES, Performance, perform
from svc.data.demo.phonemes import FORMANTS, PHONEMES, VOWELS, formant_table
from svc.data.demo.phrases import held_out
from svc.data.demo.render import render
from svc.data.demo.scores import random_score
from svc.data.demo.singers import SINGERS, Singer, default_key_shift_semitones
from svc.features.pitch.parselmouth import ParselmouthPitch

RATE_HZ = 44_100
SINGER_IDS = [singer.name for singer in SINGERS]


def steady_vowel(symbol: str, f0_hz: NDArray[np.float64]) -> Performance:
    """One vowel that stands still under a given contour."""
    points = len(f0_hz)
    posture = PHONEMES[symbol].posture
    assert posture is not None
    table = np.repeat(formant_table([posture]), points, axis=2)
    return Performance(
        samples=(points - 1) * CONTROL_SAMPLES,
        f0_hz=f0_hz,
        voiced=np.ones(points, dtype=bool),
        voice_gain=np.ones(points),
        effort=np.full(points, 0.6),
        formants_hz=table[0],
        bandwidths_hz=table[1],
        aspiration=np.zeros(points),
        bursts=(),
        seed=1,
    )


def phrase(singer: Singer, seed: int = 3, duration_s: float = 3.0) -> Performance:
    rng = np.random.default_rng(seed)
    return perform(random_score(rng, duration_s), singer, rng)


def cepstra(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """[N, 24] mel-cepstral coefficients 1 to 24, log |S| = sum c_k cos(k w)."""
    mel = MelSpectrogram(AudioSpec())(torch.from_numpy(audio)).double().numpy()
    return np.asarray(fft.dct(mel, axis=0, norm="ortho")[1:25].T * np.sqrt(2 / len(mel)))


@pytest.mark.parametrize("singer", SINGERS, ids=SINGER_IDS)
def test_fundamental_follows_the_contour_within_a_cent(singer: Singer) -> None:
    times_s = np.arange(1 + int(2 * CONTROL_RATE_HZ)) / CONTROL_RATE_HZ
    # Slow, because a fast contour reaches the ear late by the delay of the vocal tract.
    f0_hz = singer.key_hz * 2 ** (times_s / 12)
    audio = render(steady_vowel("a", f0_hz), replace(singer, breathiness_db=-90.0))
    phase = np.interp(np.arange(len(audio)) / RATE_HZ, times_s, phase_cycles(f0_hz))
    # Demodulated by the contour, the fundamental must stand still.
    carrier = audio * np.exp(-2j * np.pi * phase)
    window = signal.windows.blackmanharris(24 * int(RATE_HZ / f0_hz[0]))
    beat = signal.fftconvolve(carrier, window / window.sum(), mode="same")[8000:-8000]
    drift_hz = np.gradient(np.unwrap(np.angle(beat))) * RATE_HZ / (2 * np.pi)
    f0_at_samples = np.interp(np.arange(len(audio)) / RATE_HZ, times_s, f0_hz)[8000:-8000]
    cents = 1200 * np.log2(1 + drift_hz / f0_at_samples)
    assert np.abs(cents).max() < 1.0
    assert np.abs(cents.mean()) < 0.1


def test_closures_lie_where_the_phase_is_whole() -> None:
    f0_hz = np.array([100.0, 300.0, 80.0, 80.0, 500.0]).repeat(50)
    closures_s = closure_times_s(f0_hz)
    fine_s = np.linspace(0, (len(f0_hz) - 1) / CONTROL_RATE_HZ, 400_001)
    contour = np.interp(fine_s, np.arange(len(f0_hz)) / CONTROL_RATE_HZ, f0_hz)
    phase = np.concatenate([[0], np.cumsum((contour[1:] + contour[:-1]) / 2 * np.diff(fine_s))])
    at_closures = np.interp(closures_s, fine_s, phase)
    np.testing.assert_allclose(at_closures, np.arange(1, len(closures_s) + 1), atol=1e-4)
    assert len(closures_s) == int(phase[-1])


@pytest.mark.parametrize("semitones", [-12.0, 0.5, 7.0])
def test_transposition_moves_f0_and_nothing_else(semitones: float) -> None:
    performance = phrase(SINGERS[0], duration_s=2.0)
    moved = performance.transposed(semitones)
    np.testing.assert_allclose(12 * np.log2(moved.f0_hz / performance.f0_hz), semitones, atol=1e-9)
    assert replace(moved, f0_hz=performance.f0_hz) == performance


def test_the_truth_on_frames_is_read_at_their_centres() -> None:
    performance = phrase(SINGERS[2], duration_s=2.0)
    frames = performance.frame_f0_hz()
    assert len(frames) == performance.samples // 512 == len(performance.frame_voiced())
    assert frames[10] == np.float32(performance.f0_hz[(512 * 10 + 256) // CONTROL_SAMPLES])
    with pytest.raises(ValueError, match="hop_samples=500"):
        performance.frame_f0_hz(500)


@pytest.mark.parametrize("singer", SINGERS[:2], ids=SINGER_IDS[:2])
def test_formants_lie_where_the_tract_puts_them(singer: Singer) -> None:
    posture = PHONEMES["E"].posture
    assert posture is not None
    # So low an F0 samples the envelope finely.
    audio = render(steady_vowel("E", np.full(1500, 50.0)), singer)
    spectrum = np.abs(fft.rfft(audio[: RATE_HZ * 2] * np.hanning(RATE_HZ * 2)))
    harmonics_hz = np.arange(50, 4000, 50)
    envelope = spectrum[2 * harmonics_hz]
    for formant in range(2):
        expected_hz = (
            posture.formants_hz[formant] * singer.formant_scale * singer.formant_ratios[formant]
        )
        near = np.abs(harmonics_hz - expected_hz) < 350
        measured_hz = harmonics_hz[near][envelope[near].argmax()]
        assert abs(measured_hz - expected_hz) < 60


@pytest.mark.parametrize("singer", SINGERS, ids=SINGER_IDS)
def test_audio_is_finite_in_level_and_without_clicks(singer: Singer) -> None:
    audio = render(phrase(singer), singer)
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() < 0.9
    assert -32 < 20 * np.log10(audio.std()) < -14

    def top_band(samples: NDArray[np.float32]) -> float:
        # Nothing that is sung reaches 21.5 kHz; a click does.
        high = signal.sosfilt(
            signal.butter(12, 21_500, "highpass", fs=RATE_HZ, output="sos"), samples
        )
        return float(np.sqrt(ndimage.uniform_filter1d(high**2, 64)).max())

    clicked = audio.copy()
    clicked[len(audio) // 2 :] += np.float32(0.02)
    assert top_band(audio) < 1e-4 < top_band(clicked)


def test_noise_sounds_are_noise_and_vowels_are_not() -> None:
    singer = SINGERS[2]
    performance = phrase(singer, seed=8, duration_s=8.0)
    audio = render(performance, singer)
    sibilant = next(b for b in performance.bursts if b.symbol in ("s", "sh"))
    middle = (sibilant.start_sample + sibilant.stop_sample) // 2

    def periodicity(samples: NDArray[np.float32]) -> float:
        correlation = signal.correlate(samples, samples, method="fft")[len(samples) - 1 :]
        return float(correlation[60:600].max() / correlation[0])

    loudest = int(np.argmax(ndimage.uniform_filter1d(audio**2, 2000)))
    assert periodicity(audio[middle - 1000 : middle + 1000]) < 0.3
    assert periodicity(audio[loudest - 1000 : loudest + 1000]) > 0.7


def test_parallel_truth_is_aligned_and_differs() -> None:
    pair = held_out(0, 0)
    assert pair.source.shape == pair.truth.shape
    assert len(pair.source) == 512 * len(pair.f0_hz) == 512 * len(pair.voiced)
    assert pair.semitones == default_key_shift_semitones(SINGERS[0], SINGERS[1]) == 12
    level = [
        20 * np.log10(np.sqrt(ndimage.uniform_filter1d(a.numpy() ** 2, 2048)) + 1e-3)
        for a in (pair.source, pair.truth)
    ]
    lag = signal.correlation_lags(len(level[0]), len(level[1]))
    centred = [x - x.mean() for x in level]
    best = lag[signal.correlate(*centred, method="fft").argmax()]
    assert abs(best) < 220, "the truth is shifted by over 5 ms"
    assert np.corrcoef(*level)[0, 1] > 0.9


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 2), (2, 0), (3, 1)])
def test_singers_differ_by_over_six_decibels(a: int, b: int) -> None:
    performance = phrase(SINGERS[a], duration_s=5.0)
    shift = default_key_shift_semitones(SINGERS[a], SINGERS[b])
    difference = cepstra(render(performance, SINGERS[a])) - cepstra(
        render(performance.transposed(shift), SINGERS[b])
    )
    mcd_db = 10 / np.log(10) * np.sqrt(2 * (difference**2).sum(1))
    assert mcd_db[performance.frame_voiced()].mean() > 6.0


def test_scores_are_gapless_and_cover_the_vowels() -> None:
    score = random_score(np.random.default_rng(0), 10.0)
    stops = [p.stop_s for p in score.phonemes]
    starts = [p.start_s for p in score.phonemes]
    np.testing.assert_allclose(starts[1:], stops[:-1], atol=1e-9)
    assert starts[0] == 0
    assert stops[-1] == 10.0
    assert all(start < stop for start, stop in zip(starts, stops, strict=True))
    assert set(VOWELS) <= {p.symbol for p in score.phonemes}
    assert all(-5 <= note.semitones <= 12 for note in score.notes)
    with pytest.raises(ValueError, match="too short"):
        random_score(np.random.default_rng(0), 0.5)


def test_every_phoneme_is_complete() -> None:
    assert len(VOWELS) >= 8
    for symbol, phoneme in PHONEMES.items():
        if phoneme.posture is not None:
            assert len(phoneme.posture.formants_hz) == FORMANTS, symbol
            assert len(phoneme.posture.bandwidths_hz) == FORMANTS, symbol
            assert np.all(np.diff(phoneme.posture.formants_hz) > 0), symbol
        assert phoneme.voiced or phoneme.noise or phoneme.aspiration_db or symbol == "_", symbol


def test_unvoiced_stretches_hold_no_voice() -> None:
    performance = phrase(SINGERS[0])
    assert not performance.voice_gain[~performance.voiced].any()
    assert 0.5 < performance.voiced.mean() < 0.95


@pytest.mark.parametrize("singer", SINGERS, ids=SINGER_IDS)
def test_a_pitch_tracker_agrees_with_the_truth(singer: Singer) -> None:
    performance = phrase(singer, duration_s=5.0)
    truth_hz, truth_voiced = performance.frame_f0_hz(), performance.frame_voiced()
    pitch = ParselmouthPitch().track(torch.from_numpy(render(performance, singer)), RATE_HZ, 512)
    voiced = pitch.voiced.numpy()
    both = voiced & truth_voiced
    cents = np.abs(1200 * np.log2(pitch.f0_hz.numpy()[both] / truth_hz[both]))
    assert np.median(cents) < 10
    assert np.mean(voiced != truth_voiced) < 0.08
