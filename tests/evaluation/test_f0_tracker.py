"""The judge of pitch, judged by exact signals."""

import math

import pytest
import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.data.demo.phrases import held_out
from svc.evaluation.f0_tracker import JudgeTracker
from svc.evaluation.metrics.f0 import compare_f0

SPEC = AudioSpec()


def tone(f0_hz: float, partials: int, seconds: float = 0.5) -> Tensor:
    """[T] with partials that fall by 6 dB per octave."""
    t = torch.arange(int(seconds * 44_100), dtype=torch.float64) / 44_100
    waves = [torch.sin(2 * math.pi * f0_hz * k * t) / k for k in range(1, partials + 1)]
    return 0.2 * torch.stack(waves).sum(0).float()


@pytest.fixture(scope="module")
def tracker() -> JudgeTracker:
    return JudgeTracker()


@pytest.mark.parametrize("partials", [1, 10])
@pytest.mark.parametrize("f0_hz", [110.0, 313.7, 880.0])
def test_measures_a_shift_of_20_cents(tracker: JudgeTracker, f0_hz: float, partials: int) -> None:
    straight = tracker.track(tone(f0_hz, partials), SPEC)
    shifted = tracker.track(tone(f0_hz * 2 ** (20 / 1200), partials), SPEC)
    inside = slice(3, -3)
    cents = 1200 * torch.log2(shifted.f0_hz / straight.f0_hz)[inside]
    assert float(cents.median()) == pytest.approx(20, abs=0.5)
    absolute = 1200 * torch.log2(straight.f0_hz / f0_hz)[inside]
    assert float(absolute.abs().median()) < 0.5
    assert bool(straight.voiced[inside].all())


def test_frames_lie_on_the_mel_grid(tracker: JudgeTracker) -> None:
    # A glide: where the frames are late, F0 is too low everywhere.
    t = torch.arange(2 * 44_100, dtype=torch.float64) / 44_100
    semitones_per_s = 12.0
    f0 = 220 * 2 ** (semitones_per_s * t / 12)
    audio = 0.2 * torch.sin(2 * math.pi * torch.cumsum(f0 / 44_100, 0)).float()
    measured = tracker.track(audio, SPEC)
    centres = (torch.arange(len(measured.f0_hz)) * 512 + 256).clamp(max=len(t) - 1)
    cents = 1200 * torch.log2(measured.f0_hz / f0[centres])[4:-4]
    # One frame is 14 cents here.
    assert abs(float(cents.median())) < 0.5
    assert float(cents.abs().max()) < 3


def test_noise_and_silence_are_unvoiced(tracker: JudgeTracker) -> None:
    noise = 0.1 * torch.randn(22_050, generator=torch.Generator().manual_seed(0))
    assert float(tracker.track(noise, SPEC).voiced.float().mean()) < 0.1
    assert not tracker.track(torch.zeros(8192), SPEC).voiced.any()
    quiet_tone = torch.cat([tone(220, 5, 0.3), 1e-3 * tone(220, 5, 0.3)])
    voiced = tracker.track(quiet_tone, SPEC).voiced
    assert bool(voiced[3:20].all())
    assert not voiced[30:].any()


@pytest.mark.parametrize("singers", [("bruno_bass", "alma_alto"), ("sofia_soprano", "theo_tenor")])
def test_measures_synthetic_singers_right(tracker: JudgeTracker, singers: tuple[str, str]) -> None:
    pair = held_out(0, 0, *singers, phrase_s=(4.0, 4.0))
    measured = tracker.track(pair.truth, SPEC)
    errors = compare_f0(measured.f0_hz, measured.voiced, pair.f0_hz, pair.voiced)
    assert errors.median_abs_cents < 4
    assert errors.gross_error_share < 0.005
    assert errors.voicing_error_share < 0.03


def test_less_than_a_frame_gives_no_frames(tracker: JudgeTracker) -> None:
    assert tracker.track(torch.zeros(511), SPEC).f0_hz.shape == (0,)
    assert tracker.track(tone(220, 3, 0.02), SPEC).f0_hz.shape == (1,)
