"""Scores of contours made for the purpose, whose right values can be counted by hand."""

import math

import pytest
import torch

from svc.evaluation.pitch.metrics import interval_cents, joined, score_pitch
from svc.features.pitch.base import Pitch


def contour(f0_hz: list[float], voiced: str | None = None) -> Pitch:
    """v voiced, . unvoiced; all voiced where not told."""
    marks = "v" * len(f0_hz) if voiced is None else voiced
    return Pitch(torch.tensor(f0_hz), torch.tensor([mark == "v" for mark in marks]))


def above(f0_hz: float, cents: float) -> float:
    return f0_hz * 2.0 ** (cents / 1200)


MELODY = contour([200.0, 210.0, 220.0, 230.0, 240.0, 250.0], "vvvv..")


def test_the_truth_itself_is_perfect() -> None:
    score = score_pitch(MELODY, MELODY)
    assert score.raw_pitch_accuracy == score.raw_chroma_accuracy == 1.0
    assert score.voicing_recall == score.overall_accuracy == 1.0
    assert score.voicing_false_alarm == score.octave_error_share == score.median_abs_cents == 0.0
    assert (score.frames, score.voiced_frames) == (6, 4)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 4.0])
def test_octaves_off_is_wrong_in_pitch_and_right_in_chroma(factor: float) -> None:
    score = score_pitch(MELODY, Pitch(factor * MELODY.f0_hz, MELODY.voiced))
    assert score.raw_pitch_accuracy == 0.0
    assert score.raw_chroma_accuracy == score.octave_error_share == 1.0
    assert score.overall_accuracy == 2 / 6  # the unvoiced ones
    assert score.median_abs_cents == pytest.approx(abs(1200 * math.log2(factor)))


def test_each_share_is_of_its_own_frames() -> None:
    truth = contour([200.0] * 8, "vvvvv...")
    estimate = contour(
        [200.0, above(200, 49), above(200, -51), 100.0, 200.0, 200.0, 200.0, 200.0], "vvvv.v.."
    )
    score = score_pitch(truth, estimate)
    assert score.raw_pitch_accuracy == 3 / 5  # with the one called unvoiced, whose F0 is right
    assert score.raw_chroma_accuracy == 4 / 5
    assert score.voicing_recall == 4 / 5
    assert score.voicing_false_alarm == 1 / 3
    assert score.overall_accuracy == (2 + 2) / 8
    assert score.octave_error_share == 1 / 4
    assert score.median_abs_cents == pytest.approx((49 + 51) / 2, abs=1e-3)


@pytest.mark.parametrize(("cents", "right"), [(49.9, True), (50.1, False), (-49.9, True)])
def test_the_tolerance_is_half_a_semitone(cents: float, right: bool) -> None:
    score = score_pitch(contour([440.0]), contour([above(440, cents)]))
    assert score.raw_pitch_accuracy == right


def test_nothing_voiced_is_no_number_and_a_silent_estimate_is_wrong() -> None:
    silence = contour([0.0, 0.0], "..")
    score = score_pitch(silence, silence)
    assert math.isnan(score.raw_pitch_accuracy)
    assert math.isnan(score.median_abs_cents)
    assert score.overall_accuracy == 1.0
    heard = score_pitch(contour([200.0, 200.0]), silence)
    assert heard.raw_pitch_accuracy == heard.raw_chroma_accuracy == heard.voicing_recall == 0.0
    assert math.isnan(heard.octave_error_share)


def test_joined_contours_count_every_frame_alike() -> None:
    truth = joined([contour([200.0] * 3), contour([300.0])])
    estimate = joined([contour([200.0] * 3), contour([400.0])])
    assert score_pitch(truth, estimate).raw_pitch_accuracy == 3 / 4


def test_contours_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        interval_cents(contour([200.0]), contour([200.0, 200.0]))
    with pytest.raises(ValueError, match="positive"):
        interval_cents(contour([200.0]), contour([0.0]))
