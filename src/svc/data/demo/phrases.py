"""Phrases by number: the ones to train on, and the ones held out with their exact truth."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from svc.data.demo.performance import SAMPLE_RATE_HZ, Performance, perform
from svc.data.demo.render import render
from svc.data.demo.scores import Score, random_score
from svc.data.demo.singers import SINGERS, Singer, default_key_shift_semitones, singer_by_name

_HOP_SAMPLES = 512
# First number of every seed, so that no phrase of one kind is ever drawn for another.
_SHARED, _OWN, _HELD_OUT = 0, 1, 2


@dataclass(frozen=True)
class DemoPhrase:
    """One phrase and the truth about it. T is a multiple of 512, N = T / 512."""

    audio: Tensor
    """[T] float32 at 44.1 kHz."""
    f0_hz: Tensor
    """[N] float32, exact F0 in the middle of each mel frame; runs on through what is unvoiced."""
    voiced: Tensor
    """[N] bool, exact."""
    singer: str


@dataclass(frozen=True)
class DemoPair:
    """A phrase to convert and what a perfect conversion of it would be, to the sample.

    T is a multiple of 512, N = T / 512.
    """

    source: Tensor
    """[T] float32 at 44.1 kHz, the source singer's voice."""
    truth: Tensor
    """[T] float32, the same performance, transposed, in the target singer's voice."""
    f0_hz: Tensor
    """[N] float32, exact F0 of the truth in the middle of each mel frame; runs on through what is
    unvoiced."""
    voiced: Tensor
    """[N] bool, exact, of both."""
    semitones: float
    """By how much the truth lies above the source."""
    source_singer: str
    target_singer: str


def training_phrase(
    seed: int,
    index: int,
    singer: Singer,
    *,
    phrase_s: tuple[float, float] = (6.0, 10.0),
    shared_share: float = 0.5,
) -> DemoPhrase:
    """Phrase `index` of `singer`'s recordings in the data set of that seed.

    Args:
        seed: of the data set, at least 0.
        index: at least 0.
        singer: who sings.
        phrase_s: shortest and longest duration.
        shared_share: share of the phrases whose score every singer sings; the others have scores
            of their own. Performances always differ.
    """
    # Spread evenly: phrase i is shared where the running count of shared phrases steps up.
    shared = int((index + 1) * shared_share) > int(index * shared_share)
    score_seed = [_SHARED, seed, index] if shared else [_OWN, seed, index, *singer.name.encode()]
    score = _score(np.random.default_rng(score_seed), phrase_s)
    performance_seed = [_OWN, seed, index, 0, *singer.name.encode()]
    performance = perform(score, singer, np.random.default_rng(performance_seed))
    return DemoPhrase(
        audio=torch.from_numpy(render(performance, singer)),
        f0_hz=torch.from_numpy(performance.frame_f0_hz(_HOP_SAMPLES)),
        voiced=torch.from_numpy(performance.frame_voiced(_HOP_SAMPLES)),
        singer=singer.name,
    )


def held_out(
    seed: int,
    index: int,
    source_singer: str = SINGERS[0].name,
    target_singer: str = SINGERS[1].name,
    semitones: float | None = None,
    *,
    phrase_s: tuple[float, float] = (6.0, 10.0),
) -> DemoPair:
    """Phrase `index` that no data set of that seed holds, sung by one singer, with the truth of
    its conversion into another.

    Args:
        seed: of the data set, at least 0.
        index: at least 0.
        source_singer: who performs.
        target_singer: whose voice renders the truth.
        semitones: transposition; None for the whole semitones between the two singers' keys.
        phrase_s: shortest and longest duration.

    Raises:
        UserError: a singer is not known.
    """
    source, target = singer_by_name(source_singer), singer_by_name(target_singer)
    if semitones is None:
        semitones = default_key_shift_semitones(source, target)
    score = _score(np.random.default_rng([_HELD_OUT, seed, index]), phrase_s)
    rng = np.random.default_rng([_HELD_OUT, seed, index, *source.name.encode()])
    performance = perform(score, source, rng)
    wanted: Performance = performance.transposed(semitones)
    return DemoPair(
        source=torch.from_numpy(render(performance, source)),
        truth=torch.from_numpy(render(wanted, target)),
        f0_hz=torch.from_numpy(wanted.frame_f0_hz(_HOP_SAMPLES)),
        voiced=torch.from_numpy(wanted.frame_voiced(_HOP_SAMPLES)),
        semitones=float(semitones),
        source_singer=source.name,
        target_singer=target.name,
    )


def _score(rng: np.random.Generator, phrase_s: tuple[float, float]) -> Score:
    """A random score whose duration is a whole number of mel frames."""
    frames = round(float(rng.uniform(*phrase_s)) * SAMPLE_RATE_HZ / _HOP_SAMPLES)
    return random_score(rng, frames * _HOP_SAMPLES / SAMPLE_RATE_HZ)
