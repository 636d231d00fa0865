"""Trackers whose faults are known get exactly the scores of those faults."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from svc.errors import UserError, UserErrors
from svc.evaluation.pitch.accuracy import ALL, AccuracyRow, measure_accuracy
from svc.evaluation.pitch.conditions import Clean, PinkNoise
from svc.evaluation.pitch.contenders import Contender, Missing, chosen, make_ready
from svc.evaluation.pitch.exercises import EXERCISES
from svc.evaluation.pitch.material import Passage, passages
from svc.evaluation.pitch.plots import plot_accuracy
from svc.evaluation.pitch.tables import accuracy_markdown
from svc.evaluation.task import Candidate
from svc.features.pitch.base import Pitch, PitchTracker

HOP = 512


class Knowing(PitchTracker):
    """Knows the truth by the number of its call, and multiplies it.

    Args:
        passages: what it will be asked for, in order.
        calls_per_passage: how often each comes.
        factor: on F0.
    """

    def __init__(self, passages: list[Passage], calls_per_passage: int, factor: float) -> None:
        self.truths = [p.truth for p in passages for _ in range(calls_per_passage)]
        self.factor = factor

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        truth = self.truths.pop(0)
        return Pitch(self.factor * truth.f0_hz, truth.voiced)


@pytest.fixture(scope="module")
def made() -> list[Passage]:
    return list(passages(0.1, 0, HOP, EXERCISES[:2]))


@pytest.fixture
def contenders(made: list[Passage]) -> list[Contender]:
    return [
        Contender(name, Knowing(made, 2, factor))
        for name, factor in (("perfect", 1.0), ("octave_up", 2.0), ("semitone", 2 ** (1 / 12)))
    ]


@pytest.fixture
def rows(made: list[Passage], contenders: list[Contender]) -> list[AccuracyRow]:
    conditions = {"clean": Clean(), "noise_0_db": PinkNoise(0.0)}
    return measure_accuracy(contenders, made, conditions, HOP)


def test_scores_are_those_of_the_faults(
    rows: list[AccuracyRow], made: list[Passage], contenders: list[Contender]
) -> None:
    assert len(rows) == 3 * 2 * (1 + len(made))
    expected = {"perfect": (1, 1, 0), "octave_up": (0, 1, 1), "semitone": (0, 0, 0)}
    for row in rows:
        score = row.score
        found = score.raw_pitch_accuracy, score.raw_chroma_accuracy, score.octave_error_share
        assert found == expected[row.tracker], row
        assert score.voicing_recall == 1.0
        assert score.voicing_false_alarm == 0.0
    whole = [row.score.frames for row in rows if row.exercise == ALL]
    assert set(whole) == {sum(len(p.truth.voiced) for p in made)}
    for contender in contenders:
        assert contender.audio_s == pytest.approx(2 * sum(len(p.audio) for p in made) / 44_100)
        assert 0 < contender.real_time_factor < 1


def test_tables_name_every_tracker_also_the_missing(
    rows: list[AccuracyRow], contenders: list[Contender]
) -> None:
    text = accuracy_markdown(rows, contenders, [Missing("rmvpe", "no weights")], "Made here.")
    overview = text.split("##")[1]
    lines = {line.split("|")[1].strip(): line for line in overview.splitlines() if "|" in line}
    assert [cell.strip() for cell in lines["octave_up"].split("|")[2:8]] == [
        *("0.0", "100.0", "100.0"),
        *("0.0", lines["octave_up"].split("|")[6].strip(), "100.0"),
    ]
    assert set(lines["rmvpe"].split("|")[2].strip()) == {"–"}
    assert "rmvpe did not take part: no weights" in overview


def test_the_plot_is_a_picture(rows: list[AccuracyRow], tmp_path: Path) -> None:
    plot_accuracy(tmp_path / "plot.png", rows)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def unable() -> PitchTracker:
    raise UserError("needs weights")


class Silent(PitchTracker):
    """Hears nothing, and may need weights when it first listens."""

    def __init__(self, problem: str | None = None) -> None:
        self.problem = problem

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        if self.problem:
            raise UserError(self.problem)
        frames = len(audio) // hop_samples
        return Pitch(torch.zeros(frames), torch.zeros(frames, dtype=torch.bool))


def test_a_tracker_that_lacks_something_does_not_stop_the_others() -> None:
    late = Candidate("late", lambda: Silent("no file"))
    ready, missing = make_ready(
        [Candidate("silent", Silent), Candidate("unable", unable), late], 44_100, HOP
    )
    assert [contender.name for contender in ready] == ["silent"]
    assert missing == [Missing("unable", "needs weights"), Missing("late", "no file")]
    assert math.isnan(ready[0].real_time_factor)  # the warm-up is not timed
    with pytest.raises(UserErrors, match="unable: needs weights"):
        make_ready([Candidate("unable", unable)], 44_100, HOP)


def test_names_choose_in_their_order_and_a_wrong_one_gets_the_nearest() -> None:
    candidates = [Candidate(name, Silent) for name in ("crepe", "harvest", "dio")]
    assert chosen(candidates, None) == candidates
    assert [c.name for c in chosen(candidates, ["dio", "crepe", "dio"])] == ["dio", "crepe"]
    with pytest.raises(UserErrors, match=r"'harvst' is no tracker; did you mean harvest\?"):
        chosen(candidates, ["harvst"])
    with pytest.raises(UserErrors, match="it is empty"):
        chosen(candidates, [])


def test_a_contour_of_a_wrong_length_is_not_scored() -> None:
    class Short(Silent):
        def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
            return super().track(audio[hop_samples:], sample_rate_hz, hop_samples)

    with pytest.raises(RuntimeError, match="pitch=short"):
        Contender("short", Short()).track(torch.zeros(4 * HOP), 44_100, HOP)
