"""Trackers against voices whose F0 is known exactly."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from svc.data.demo.performance import SAMPLE_RATE_HZ
from svc.evaluation.pitch.conditions import Condition
from svc.evaluation.pitch.contenders import Contender
from svc.evaluation.pitch.material import Passage
from svc.evaluation.pitch.metrics import PitchScore, joined, score_pitch
from svc.features.pitch.base import Pitch

ALL = "all"
"""In place of an exercise: every passage, frame by frame alike."""
# First number of the seed of what is done to the voices, so that it is independent of them.
_CONDITIONS = 4


@dataclass(frozen=True)
class AccuracyRow:
    """One tracker under one condition, on one exercise or all of them."""

    tracker: str
    condition: str
    exercise: str
    score: PitchScore


def measure_accuracy(
    contenders: Sequence[Contender],
    passages: Sequence[Passage],
    conditions: Mapping[str, Condition],
    hop_samples: int,
    seed: int = 0,
    advance: Callable[[str], None] | None = None,
) -> list[AccuracyRow]:
    """Let every tracker hear every passage under every condition.

    Args:
        contenders: the trackers; their clocks run on.
        passages: recordings with their truth.
        conditions: by name.
        hop_samples: the frame grid of the truth.
        seed: of rooms and noise; the same for every tracker.
        advance: called with the tracker's name after each of
            passages x conditions x contenders pieces of work.

    Returns:
        For each tracker and condition a row over everything, then one per exercise.
    """
    heard: dict[tuple[str, str], list[tuple[Passage, Pitch]]] = {
        (contender.name, condition): [] for contender in contenders for condition in conditions
    }
    for number, passage in enumerate(passages):
        for name, condition in conditions.items():
            rng = np.random.default_rng([_CONDITIONS, seed, number, *name.encode()])
            audio = condition.apply(passage.audio, SAMPLE_RATE_HZ, rng)
            for contender in contenders:
                contour = contender.track(audio, SAMPLE_RATE_HZ, hop_samples)
                heard[contender.name, name].append((passage, contour))
                if advance is not None:
                    advance(contender.name)
    return [row for (t, c), pairs in heard.items() for row in _rows(t, c, pairs)]


def _rows(
    tracker: str, condition: str, pairs: Sequence[tuple[Passage, Pitch]]
) -> Iterator[AccuracyRow]:
    groups: dict[str, list[tuple[Passage, Pitch]]] = {ALL: list(pairs)}
    for pair in pairs:
        groups.setdefault(pair[0].exercise, []).append(pair)
    for exercise, members in groups.items():
        truth = joined([passage.truth for passage, _ in members])
        score = score_pitch(truth, joined([contour for _, contour in members]))
        yield AccuracyRow(tracker, condition, exercise, score)
