"""The synthetic voices cover what they promise, and their truth is true."""

import numpy as np
import pytest
import torch

from svc.data.demo.glottal import closure_times_s
from svc.data.demo.performance import CONTROL_RATE_HZ
from svc.errors import UserError
from svc.evaluation.pitch.exercises import EXERCISES
from svc.evaluation.pitch.material import Passage, passages
from svc.evaluation.pitch.metrics import joined, score_pitch
from svc.features.pitch.parselmouth import ParselmouthPitch

HOP = 512


@pytest.fixture(scope="module")
def made() -> list[Passage]:
    return list(passages(0.8, 0, HOP))


def test_it_covers_60_to_1200_hz_and_lasts_as_long_as_asked(made: list[Passage]) -> None:
    truth = joined([passage.truth for passage in made])
    sung = truth.f0_hz[truth.voiced]
    assert 55 < float(sung.min()) < 63
    assert 1150 < float(sung.max()) < 1260
    assert sum(len(p.audio) for p in made) / 44_100 == pytest.approx(48, rel=0.01)
    assert [p.exercise for p in made] == [exercise.name for exercise in EXERCISES]
    for passage in made:
        assert passage.truth.f0_hz.shape == (len(passage.audio) // HOP,)
        assert len(passage.audio) % HOP == 0
        assert 0.3 < float(passage.truth.voiced.float().mean()) < 0.99


def test_an_independent_tracker_finds_that_f0(made: list[Passage]) -> None:
    """Trackers may fail on creak and breath, which are meant to be hard."""
    tracker = ParselmouthPitch()
    for passage in made:
        score = score_pitch(passage.truth, tracker.track(passage.audio, 44_100, HOP))
        if passage.exercise not in ("creak", "breathy"):
            assert score.raw_pitch_accuracy > 0.92, passage.exercise
            assert score.median_abs_cents < 10, passage.exercise


def test_creak_pulses_in_twos_around_the_true_f0() -> None:
    (exercise,) = (exercise for exercise in EXERCISES if exercise.name == "creak")
    sung, truth = exercise.sing(np.random.default_rng(0), 3.0)
    closures_s, regular_s = (closure_times_s(p.f0_hz) for p in (sung, truth))
    assert abs(len(closures_s) - len(regular_s)) <= 2  # the same rate of closures
    grid_s = np.arange(len(truth.f0_hz)) / CONTROL_RATE_HZ
    middles_s = 0.5 * (closures_s[1:] + closures_s[:-1])
    lengths = np.diff(closures_s) * np.interp(middles_s, grid_s, truth.f0_hz) - 1.0
    assert 0.01 < lengths.std() < 0.04
    neighbours = np.abs(lengths[1:] - lengths[:-1]).mean()
    in_twos = np.abs(lengths[2:] - lengths[:-2]).mean()
    assert neighbours > 1.05 * in_twos


def test_the_exercises_differ_as_their_names_say(made: list[Passage]) -> None:
    def speed(name: str, quantile: float) -> float:
        """How fast F0 moves, in cents per frame."""
        (truth,) = (p.truth for p in made if p.exercise == name)
        steps = (1200 * torch.log2(truth.f0_hz[1:] / truth.f0_hz[:-1])).abs()
        return float(steps[truth.voiced[1:] & truth.voiced[:-1]].quantile(quantile))

    assert speed("vibrato", 0.5) > 3 * speed("low", 0.5)  # all the time
    assert speed("glides", 0.75) > 1.5 * speed("low", 0.75)  # much of the time
    assert speed("fast", 0.95) > 2 * speed("low", 0.95)  # at the notes' beginnings


def test_seeds_and_lengths() -> None:
    some = EXERCISES[:2]
    once, again = (list(passages(0.1, 0, HOP, some)) for _ in range(2))
    other = list(passages(0.1, 1, HOP, some))
    assert all(torch.equal(a.audio, b.audio) for a, b in zip(once, again, strict=True))
    assert not any(torch.equal(a.audio, b.audio) for a, b in zip(once, other, strict=True))
    twice = list(passages(0.3, 0, HOP, some))
    assert [p.exercise for p in twice] == [e.name for e in some] * 2
    assert not torch.equal(twice[0].truth.f0_hz, twice[2].truth.f0_hz)


def test_too_little_audio_and_a_hop_without_truth_are_refused() -> None:
    with pytest.raises(UserError, match=r"task\.minutes=0\.1 .* at least 0\.28"):
        list(passages(0.1, 0, HOP))
    with pytest.raises(UserError, match=r"audio\.hop_samples=441"):
        list(passages(0.8, 0, 441))
