"""All numbers of a conversion together, on short synthetic signals."""

import math

import pytest
import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.data.demo.phrases import DemoPair, held_out
from svc.evaluation.conversion import evaluate_pair, evaluate_unpaired
from svc.evaluation.f0_tracker import JudgeTracker, MeasuredPitch

SPEC = AudioSpec()


class RememberingTracker(JudgeTracker):
    """Measures the same audio once."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[bytes, MeasuredPitch] = {}

    def track(self, audio: Tensor, spec: AudioSpec) -> MeasuredPitch:
        key = audio.numpy().tobytes()
        if key not in self.known:
            self.known[key] = super().track(audio, spec)
        return self.known[key]


TRACKER = RememberingTracker()


@pytest.fixture(scope="module")
def pair() -> DemoPair:
    return held_out(0, 1, phrase_s=(1.5, 1.5))


def evaluate(pair: DemoPair, converted: Tensor):  # type: ignore[no-untyped-def]
    return evaluate_pair(pair.source, converted, pair.truth, pair.f0_hz, pair.voiced, SPEC, TRACKER)


def test_the_truth_itself_is_perfect(pair: DemoPair) -> None:
    metrics = evaluate(pair, pair.truth)
    assert metrics.mcd_converted_db == 0.0
    assert metrics.mcd_reduction_percent == 100.0
    assert metrics.log_mel_l1_converted == 0.0
    assert metrics.level_difference_db == 0.0
    assert metrics.f0 == metrics.f0_of_truth
    assert metrics.f0.median_abs_cents < 5
    assert metrics.f0.voicing_error_share < 0.03


def test_doing_nothing_gains_nothing(pair: DemoPair) -> None:
    metrics = evaluate(pair, pair.source)
    assert metrics.mcd_source_db > 3
    assert metrics.mcd_converted_db == metrics.mcd_source_db
    assert metrics.mcd_reduction_percent == 0.0
    assert metrics.log_mel_l1_converted == metrics.log_mel_l1_source
    # The truth is an octave above.
    assert pair.semitones == 12
    assert metrics.f0.median_abs_cents == pytest.approx(1200, abs=10)
    assert metrics.f0.gross_error_share > 0.95


def test_gain_is_level_and_nothing_else(pair: DemoPair) -> None:
    metrics = evaluate(pair, pair.truth * 10 ** (-6 / 20))
    assert metrics.level_difference_db == pytest.approx(-6, abs=1e-3)
    assert metrics.mcd_converted_db < 0.05
    assert metrics.f0.median_abs_cents == pytest.approx(
        metrics.f0_of_truth.median_abs_cents, abs=0.1
    )


def test_frames_in_another_order_are_far_away(pair: DemoPair) -> None:
    metrics = evaluate(pair, pair.truth.roll(40 * 512))
    assert metrics.mcd_converted_db > 5


def test_without_truth(pair: DemoPair) -> None:
    metrics = evaluate_unpaired(pair.source, pair.truth, pair.truth.roll(5000), SPEC, 12.0, TRACKER)
    assert metrics.timbre_distance_converted_db < 1 < metrics.timbre_distance_source_db
    assert metrics.timbre_reduction_percent > 50
    assert metrics.f0.median_abs_cents < 5
    assert math.isfinite(metrics.level_difference_db)


def test_lengths_must_agree(pair: DemoPair) -> None:
    with pytest.raises(ValueError, match=r"must all be \[T\]"):
        evaluate(pair, pair.truth[:-1])
    with pytest.raises(ValueError, match="one value per hop"):
        evaluate_pair(pair.source, pair.truth, pair.truth, pair.f0_hz[:-1], pair.voiced[:-1], SPEC)
    with pytest.raises(ValueError, match=r"must be \[T\]"):
        evaluate_unpaired(pair.source, pair.truth[:-1], torch.zeros(9000), SPEC)
