"""What is done to a voice has the strength that it states, and leaves its timing alone."""

import numpy as np
import pytest
import torch
from scipy import signal

from svc.errors import UserError
from svc.evaluation.pitch.conditions import Clean, Condition, PinkNoise, Reverb, pink_noise

RATE_HZ = 44_100


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def voice() -> torch.Tensor:
    time_s = torch.arange(RATE_HZ) / RATE_HZ
    return 0.3 * torch.sin(2 * torch.pi * 220 * time_s) * (time_s > 0.3)


@pytest.mark.parametrize("snr_db", [20.0, 10.0, 0.0, -5.0])
def test_noise_has_the_stated_level(snr_db: float) -> None:
    audio = voice()
    noise = PinkNoise(snr_db).apply(audio, RATE_HZ, rng()) - audio
    measured_db = 10 * torch.log10(audio.square().mean() / noise.square().mean())
    assert float(measured_db) == pytest.approx(snr_db, abs=0.01)


def test_noise_falls_by_3_db_per_octave() -> None:
    noise = pink_noise(20 * RATE_HZ, RATE_HZ, rng())
    frequencies_hz, power = signal.welch(noise, RATE_HZ, nperseg=8192)
    octaves = [
        power[(frequencies_hz >= low) & (frequencies_hz < 2 * low)].mean()
        for low in (100, 200, 400, 800, 1600, 3200, 6400)
    ]
    steps_db = 10 * np.log10(np.array(octaves[1:]) / octaves[:-1])
    assert steps_db == pytest.approx(-3.01, abs=0.35)


def test_the_direct_sound_stays_on_its_sample_and_level() -> None:
    click = torch.zeros(RATE_HZ)
    click[1000] = 0.5
    heard = Reverb(0.6, direct_to_reverberant_db=0.0, gap_s=0.005).apply(click, RATE_HZ, rng())
    assert heard.shape == click.shape
    assert int(heard.abs().argmax()) == 1000
    assert float(heard[1000]) == pytest.approx(0.5, abs=1e-6)
    assert float(heard[:1000].abs().max()) < 1e-6
    assert float(heard[1001:1220].abs().max()) < 1e-6
    assert float(heard[1220:1500].abs().max()) > 1e-3


def test_reverberation_decays_and_weighs_as_stated() -> None:
    response = Reverb(0.6, direct_to_reverberant_db=3.0).impulse_response(RATE_HZ, rng())
    tail = response[1:]
    assert 10 * np.log10(1 / np.sum(tail**2)) == pytest.approx(3.0, abs=1e-6)
    # Schroeder's backward integration: the slope from -5 to -25 dB gives the time for 60 dB.
    decay_db = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2))
    start, stop = (int(np.argmax(decay_db <= level)) for level in (-5, -25))
    assert 3 * (stop - start) / RATE_HZ == pytest.approx(0.6, rel=0.05)


@pytest.mark.parametrize("condition", [Clean(), Reverb(), PinkNoise(10.0)])
def test_the_same_seed_makes_the_same_sound(condition: Condition) -> None:
    audio = voice()
    once, again = (condition.apply(audio, RATE_HZ, rng()) for _ in range(2))
    assert torch.equal(once, again)
    assert once.dtype == torch.float32
    assert once.shape == audio.shape
    other = condition.apply(audio, RATE_HZ, np.random.default_rng(6))
    assert torch.equal(once, other) == isinstance(condition, Clean)


def test_silence_stays_finite() -> None:
    assert PinkNoise(0.0).apply(torch.zeros(1000), RATE_HZ, rng()).isfinite().all()


def test_an_impossible_room_is_refused() -> None:
    with pytest.raises(UserError, match="rt60_s=0 "):
        Reverb(rt60_s=0.0)
