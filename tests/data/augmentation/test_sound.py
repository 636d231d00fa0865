"""What is done to sound is exact where it can be, and measured where it cannot."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter

from svc.data.augmentation import equaliser, formants, noise, reverberation
from svc.data.augmentation.content import ContentPerturbation
from svc.data.augmentation.equaliser import Band
from svc.data.augmentation.key_shift import EDGE_SAMPLES, played_at
from svc.data.augmentation.loudness import gain_below_clipping
from svc.data.augmentation.time_stretch import MARGIN_SAMPLES, REACH_SAMPLES, stretched
from svc.errors import UserError

RATE_HZ = 44_100


def sine(frequency_hz: float, samples: int) -> NDArray[np.float32]:
    time_s = np.arange(samples) / RATE_HZ
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def strongest_hz(audio: NDArray[np.floating]) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 2**19))
    return float(spectrum.argmax() * RATE_HZ / 2**19)


def vowel(formants_hz: list[float], seconds: float = 1.0) -> NDArray[np.float64]:
    """Pulses at 110 Hz through resonances."""
    audio = np.zeros(round(seconds * RATE_HZ))
    audio[:: RATE_HZ // 110] = 1.0
    for frequency_hz in formants_hz:
        pole = np.exp(-np.pi * 80 / RATE_HZ)
        cosine = np.cos(2 * np.pi * frequency_hz / RATE_HZ)
        audio = lfilter([1.0], [1.0, -2 * pole * cosine, pole**2], audio)
    return audio / np.abs(audio).max() * 0.5


def envelope_peak_hz(audio: NDArray[np.floating]) -> float:
    """The strongest formant."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2
    step_hz = RATE_HZ / len(audio)
    width = round(220 / step_hz)
    smooth = np.convolve(spectrum, np.hanning(width), "same")
    return float(smooth.argmax() * step_hz)


@pytest.mark.parametrize("semitones", [-5.0, -0.37, 3.0, 12.0])
def test_playing_at_another_speed_is_exact(semitones: float) -> None:
    speed = 2 ** (semitones / 12)
    samples = 20_000
    audio = sine(440, int(np.ceil(samples * speed)) + 1)
    played = played_at(audio, speed, samples)
    exact = sine(440 * speed, samples)
    inside = slice(EDGE_SAMPLES, -EDGE_SAMPLES)
    np.testing.assert_allclose(played[inside], exact[inside], atol=1e-3)
    assert len(played) == samples


def test_speed_and_rate_of_one_change_nothing() -> None:
    audio = np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    assert np.array_equal(played_at(audio, 1.0, 5000), audio[:5000])
    assert np.array_equal(stretched(audio, 1.0, 5000), audio[:5000])


@pytest.mark.parametrize("rate", [0.5, 0.8, 1.25, 2.0])
@pytest.mark.parametrize("frequency_hz", [61.0, 220.0, 997.0])
def test_stretch_keeps_pitch_level_and_purity(rate: float, frequency_hz: float) -> None:
    samples = 40_000
    audio = sine(frequency_hz, round(samples * rate) + MARGIN_SAMPLES)
    result = stretched(audio, rate, samples)[MARGIN_SAMPLES:]
    assert strongest_hz(result) == pytest.approx(frequency_hz, rel=1e-3, abs=0.2)
    assert np.std(result) == pytest.approx(np.std(audio), rel=0.02)
    spectrum = np.abs(np.fft.rfft(result * np.hanning(len(result)))) ** 2
    around = np.abs(np.fft.rfftfreq(len(result), 1 / RATE_HZ) - frequency_hz) < 10
    assert spectrum[~around].sum() < 1e-3 * spectrum.sum()


@pytest.mark.parametrize("rate", [0.7, 1.4])
def test_stretch_puts_every_sound_where_it_belongs(rate: float) -> None:
    samples = 60_000
    audio = np.zeros(round(samples * rate) + MARGIN_SAMPLES, dtype=np.float32)
    bursts = np.arange(8000, round(samples * rate) - 8000, 9000)
    rng = np.random.default_rng(1)
    for burst in bursts:
        audio[burst : burst + 300] = 0.3 * rng.standard_normal(300)
    result = np.abs(stretched(audio, rate, samples))
    for place in bursts / rate:
        start = int(place) - 2000
        around = result[start : start + 4300] ** 2
        centre = start + float(around @ np.arange(len(around)) / around.sum())
        assert centre == pytest.approx(place + 150 / rate, abs=REACH_SAMPLES + 300)


def test_gain_is_exact_until_it_would_clip() -> None:
    audio = np.array([0.1, -0.5, 0.2], dtype=np.float32)
    assert gain_below_clipping(6.0, audio) == pytest.approx(10**0.3, rel=1e-6)
    assert gain_below_clipping(-20.0, audio) == pytest.approx(0.1, rel=1e-6)
    assert gain_below_clipping(20.0, audio) == pytest.approx(2.0, rel=1e-6)
    assert gain_below_clipping(0.0, audio * 4) == pytest.approx(0.5, rel=1e-6)
    assert np.isfinite(gain_below_clipping(6.0, np.zeros(4, dtype=np.float32)))


@pytest.mark.parametrize("ratio", [0.75, 1.3])
def test_formants_move_and_pitch_stays(ratio: float) -> None:
    audio = vowel([1100.0])
    result = formants.shifted(audio, ratio)
    assert result.shape == audio.shape
    assert envelope_peak_hz(audio) == pytest.approx(1100, rel=0.05)
    assert envelope_peak_hz(result) == pytest.approx(1100 * ratio, rel=0.08)
    spectrum = np.abs(np.fft.rfft(result * np.hanning(len(result))))
    step_hz = RATE_HZ / len(result)
    harmonics = np.arange(2, 20) * RATE_HZ / (RATE_HZ // 110)
    on = sum(spectrum[round(f / step_hz) - 3 : round(f / step_hz) + 4].max() for f in harmonics)
    between = sum(
        spectrum[round((f + 55) / step_hz) - 3 : round((f + 55) / step_hz) + 4].max()
        for f in harmonics
    )
    assert between < 0.05 * on


def test_a_formant_ratio_of_nearly_one_changes_nearly_nothing() -> None:
    audio = np.random.default_rng(0).standard_normal(10_001) * 0.1
    assert np.abs(formants.shifted(audio, 1 + 1e-9) - audio).max() < 1e-6
    assert np.array_equal(formants.shifted(audio, 1.0), audio)


@pytest.mark.parametrize("samples", [0, 1, 700])
def test_formants_of_hardly_anything(samples: int) -> None:
    assert formants.shifted(np.ones(samples), 1.2).shape == (samples,)


@pytest.mark.parametrize(
    ("band", "gains_db"),
    [
        (Band("peak", 1000, 12.0, 3.0), {50: 0.0, 1000: 12.0, 12_000: 0.0}),
        (Band("low shelf", 200, -9.0, 0.7), {20: -9.0, 200: -4.5, 12_000: 0.0}),
        (Band("high shelf", 5000, 8.0, 0.7), {50: 0.0, 5000: 4.0, 20_000: 8.0}),
    ],
)
def test_equaliser_bands(band: Band, gains_db: dict[int, float]) -> None:
    impulse = np.zeros(RATE_HZ)
    impulse[0] = 1.0
    response = np.abs(np.fft.rfft(equaliser.equalised(impulse, RATE_HZ, [band])))
    for frequency_hz, gain_db in gains_db.items():
        assert 20 * np.log10(response[frequency_hz]) == pytest.approx(gain_db, abs=0.35)


def test_equaliser_draws_within_its_range() -> None:
    bands = equaliser.drawn_bands(np.random.default_rng(0), 6.0)
    assert [band.kind for band in bands] == ["low shelf", *["peak"] * 8, "high shelf"]
    assert max(abs(band.gain_db) for band in bands) <= 6.0
    assert all(2 <= band.q <= 5 for band in bands)


def test_room_has_its_decay_and_direct_sound() -> None:
    room = reverberation.impulse_response(np.random.default_rng(0), RATE_HZ, 0.5, 6.0)
    assert room[0] == 1.0
    assert -10 * np.log10(np.sum(room[1:] ** 2)) == pytest.approx(6.0, abs=1e-6)
    energy = np.cumsum(room[:0:-1] ** 2)[::-1]  # what is still to come (Schroeder 1965)
    early, late = (10 * np.log10(energy[round(s * RATE_HZ)]) for s in (0.05, 0.3))
    assert (early - late) / 0.25 == pytest.approx(60 / 0.5, rel=0.05)
    heard = reverberation.in_room(np.eye(1, 1000)[0], room)
    np.testing.assert_allclose(heard, room[:1000], atol=1e-12)


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
def test_noise_has_its_colour(colour: float) -> None:
    sound = noise.coloured(np.random.default_rng(0), 2**17, colour)
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(1.0)
    power = np.abs(np.fft.rfft(sound)) ** 2
    frequency_hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    low, high = (power[(frequency_hz > f) & (frequency_hz < 2 * f)].mean() for f in (200.0, 6400.0))
    assert 10 * np.log10(low / high) == pytest.approx(10 * colour * np.log10(32), abs=1.0)


def copies(audio: NDArray[np.floating], slice_id: str = "a", **changes: float) -> torch.Tensor:
    perturbation = ContentPerturbation(**changes)  # type: ignore[arg-type]
    samples = torch.from_numpy(audio.astype(np.float32))
    return torch.stack(list(perturbation.variants_of(samples, RATE_HZ, slice_id)))


def test_copies_are_those_of_their_seed_slice_and_number() -> None:
    audio = vowel([700.0, 1200.0], 0.3)
    both = copies(audio)
    assert both.shape == (2, len(audio))
    assert torch.equal(both, copies(audio))
    assert torch.equal(both, copies(audio, variants=3)[:2])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both, copies(audio, seed=1))
    assert not torch.equal(both, copies(audio, slice_id="b"))


def test_copies_keep_level_and_do_not_clip() -> None:
    audio = vowel([700.0, 1200.0], 0.3)
    for copy in copies(audio, variants=8):
        assert copy.abs().max() <= 1.0 + 1e-6
        assert copy.dtype == torch.float32
        rms_db = 20 * np.log10(float(copy.square().mean().sqrt()) / np.sqrt(np.mean(audio**2)))
        assert rms_db < 0.01
        assert rms_db > -3 or copy.abs().max() > 0.999


NOTHING = {f"{name}_probability": 0.0 for name in ("formant", "equaliser", "reverb", "noise")}


def test_each_probability_switches_its_own_part() -> None:
    audio = vowel([700.0, 1200.0], 0.3)
    np.testing.assert_allclose(copies(audio, variants=1, **NOTHING)[0], audio, atol=1e-6)
    for name in NOTHING:
        changed = copies(audio, variants=1, **{**NOTHING, name: 1.0})[0].double().numpy()
        assert np.abs(changed - audio).max() > 1e-3, name


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_is_added_at_its_level(snr_db: float) -> None:
    audio = sine(440, 20_000).astype(np.float64)
    (noisy,) = copies(
        audio,
        variants=1,
        **{**NOTHING, "noise_probability": 1.0},
        noise_min_snr_db=snr_db,
        noise_max_snr_db=snr_db,
    ).double()
    wanted = float(noisy.numpy() @ audio / (audio @ audio)) * audio
    rest = noisy.numpy() - wanted
    measured_db = 10 * np.log10(np.sum(wanted**2) / np.sum(rest**2))
    assert measured_db == pytest.approx(snr_db, abs=0.6)


@pytest.mark.parametrize("samples", [0, 1, 600])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_copies_of_hardly_anything_are_finite(samples: int, value: float) -> None:
    result = copies(np.full(samples, value))
    assert result.shape == (2, samples)
    assert result.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variants": 0}, "variants=0"),
        ({"seed": -1}, "seed=-1"),
        ({"noise_probability": 1.5}, "noise_probability=1.5"),
        ({"formant_max_ratio": 0.9}, "formant_max_ratio=0.9"),
        ({"noise_min_snr_db": 50.0}, "noise_min_snr_db and noise_max_snr_db=50 and 40"),
        ({"reverb_max_s": float("nan")}, "reverb_max_s"),
    ],
)
def test_settings_out_of_range(changes: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ContentPerturbation(**changes)  # type: ignore[arg-type]
