"""Voices to measure trackers on, with their exact F0, made from a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from svc.data.demo.performance import SAMPLE_RATE_HZ
from svc.data.demo.render import render
from svc.errors import UserError
from svc.evaluation.pitch.exercises import EXERCISES, Exercise
from svc.features.pitch.base import Pitch

_PASSAGE_S = 4.5
_SHORTEST_S = 1.5
# First number of the seed; 0 to 2 belong to the phrases of the demo data set.
_MATERIAL = 3


@dataclass(frozen=True)
class Passage:
    """A recording and the truth about it. T is a multiple of the hop."""

    exercise: str
    """What kind of singing it is."""
    audio: Tensor
    """[T] float32 at 44.1 kHz."""
    truth: Pitch
    """[N] exact F0 and voicing in the middle of each frame."""


def passages(
    minutes: float,
    seed: int,
    hop_samples: int,
    exercises: Sequence[Exercise] = EXERCISES,
) -> Iterator[Passage]:
    """Passages of every exercise in turn, about so much audio in total.

    Args:
        minutes: of audio in total; more of it means more passages of 4.5 s each.
        seed: same seed, same passages.
        hop_samples: the frame grid of the truth, a multiple of 128.
        exercises: what to sing.

    Raises:
        UserError: too little audio for one passage of every exercise, or such a hop has no truth.
    """
    if not minutes * 60 >= _SHORTEST_S * len(exercises):
        least = np.ceil(100 * _SHORTEST_S * len(exercises) / 60) / 100
        raise UserError(
            f"task.minutes={minutes:g} is too little for {len(exercises)} kinds of singing; give "
            f"at least {least:g}."
        )
    if hop_samples % 128:
        raise UserError(
            f"audio.hop_samples={hop_samples}: the exact F0 is known on frames whose hop is a "
            f"multiple of 128 samples."
        )
    rounds = max(round(60 * minutes / (len(exercises) * _PASSAGE_S)), 1)
    frames = round(60 * minutes / (len(exercises) * rounds) * SAMPLE_RATE_HZ / hop_samples)
    duration_s = frames * hop_samples / SAMPLE_RATE_HZ
    for number in range(rounds):
        for exercise in exercises:
            rng = np.random.default_rng([_MATERIAL, seed, number, *exercise.name.encode()])
            sung, truth = exercise.sing(rng, duration_s)
            yield Passage(
                exercise=exercise.name,
                audio=torch.from_numpy(render(sung, exercise.singer)),
                truth=Pitch(
                    f0_hz=torch.from_numpy(truth.frame_f0_hz(hop_samples)),
                    voiced=torch.from_numpy(truth.frame_voiced(hop_samples)),
                ),
            )
