"""What is sung: syllables on notes, without any trace of who sings them."""

from dataclasses import dataclass

import numpy as np

from svc.data.demo.phonemes import BREATH, CODAS, CONSONANTS, PHONEMES, SILENCE, VOWELS

_SCALE_SEMITONES = (-5, -3, -1, 0, 2, 4, 5, 7, 9, 11, 12)
"""A major scale from the fifth below the tonic to the octave above."""
_SHORTEST_VOWEL_S = 0.09


@dataclass(frozen=True)
class ScorePhoneme:
    """One sound of a score, over [start_s, stop_s)."""

    symbol: str
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class Note:
    """One note of a score, over [start_s, stop_s); its pitch is reached at `vowel_s`."""

    semitones: int
    """Relative to the tonic of whoever sings."""
    start_s: float
    vowel_s: float
    stop_s: float
    effort: float
    """0 pianissimo to 1 fortissimo."""
    accented: bool


@dataclass(frozen=True)
class Score:
    """Phonemes that follow each other without gaps over [0, duration_s), and the notes."""

    phonemes: tuple[ScorePhoneme, ...]
    notes: tuple[Note, ...]
    duration_s: float


def random_score(rng: np.random.Generator, duration_s: float) -> Score:
    """A random phrase: a melody that wanders over a major scale, syllables, rests and breaths.

    Args:
        rng: the only source of randomness.
        duration_s: at least 1.

    Raises:
        ValueError: `duration_s` is too short for a phrase.
    """
    if not duration_s >= 1.0:
        raise ValueError(f"duration_s={duration_s} is too short for a phrase; at least 1.")
    phonemes: list[ScorePhoneme] = []
    notes: list[Note] = []
    time_s = _rest(phonemes, 0.0, float(rng.uniform(0.4, 0.6)))
    end_s = duration_s - float(rng.uniform(0.15, 0.25))
    beat_s = float(rng.uniform(0.24, 0.38))
    step = int(rng.integers(2, len(_SCALE_SEMITONES) - 2))
    arc = _DynamicArc.draw(rng)
    until_breath = int(rng.integers(5, 10))
    # Every vowel once before any comes back, so that a few phrases already hold all of them.
    vowels: list[str] = []
    while end_s - time_s > 0.2:
        length_s = beat_s * float(rng.choice((0.7, 1.0, 1.0, 1.5, 2.0, 3.0)))
        if end_s - time_s - length_s < 0.4:
            length_s = end_s - time_s
        if not vowels:
            vowels = [str(v) for v in rng.permutation(VOWELS)]
        vowel_s = _syllable(phonemes, rng, vowels.pop(), time_s, time_s + length_s)
        notes.append(
            Note(
                semitones=_SCALE_SEMITONES[step],
                start_s=time_s,
                vowel_s=vowel_s,
                stop_s=time_s + length_s,
                effort=arc.effort(time_s / duration_s) + float(rng.normal(0.0, 0.04)),
                accented=bool(rng.random() < 0.2),
            )
        )
        time_s += length_s
        until_breath -= 1
        if until_breath == 0 and end_s - time_s > 1.5:
            time_s = _rest(phonemes, time_s, time_s + float(rng.uniform(0.35, 0.6)))
            until_breath = int(rng.integers(5, 10))
            arc = _DynamicArc.draw(rng)
        # A reflected random walk: mostly steps, now and then a leap.
        step += int(rng.choice((-4, -2, -1, -1, 0, 1, 1, 2, 4)))
        step = int(np.clip(step, 0, len(_SCALE_SEMITONES) - 1))
    phonemes.append(ScorePhoneme(SILENCE, time_s, duration_s))
    return Score(tuple(phonemes), tuple(notes), duration_s)


@dataclass(frozen=True)
class _DynamicArc:
    """A crescendo, a diminuendo, or a swell."""

    start: float
    swell: float
    stop: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_DynamicArc":
        return cls(*(float(v) for v in rng.uniform((0.35, -0.1, 0.35), (0.75, 0.3, 0.75))))

    def effort(self, position: float) -> float:
        line = self.start + (self.stop - self.start) * position
        return float(line + self.swell * np.sin(np.pi * position))


def _rest(phonemes: list[ScorePhoneme], start_s: float, stop_s: float) -> float:
    """Append a rest that ends with a breath; returns when it is over."""
    hold_s = 0.04
    breath_s = min(0.3, 0.65 * (stop_s - start_s))
    phonemes += [
        ScorePhoneme(SILENCE, start_s, stop_s - hold_s - breath_s),
        ScorePhoneme(BREATH, stop_s - hold_s - breath_s, stop_s - hold_s),
        ScorePhoneme(SILENCE, stop_s - hold_s, stop_s),
    ]
    return stop_s


def _syllable(
    phonemes: list[ScorePhoneme],
    rng: np.random.Generator,
    vowel: str,
    start_s: float,
    stop_s: float,
) -> float:
    """Append one syllable that fills [start_s, stop_s); returns when its vowel begins."""
    onset = str(rng.choice(CONSONANTS)) if rng.random() < 0.85 else None
    coda = str(rng.choice(CODAS)) if rng.random() < 0.3 else None
    onset_s = _consonant_s(rng, onset)
    coda_s = _consonant_s(rng, coda)
    if stop_s - start_s - onset_s - coda_s < _SHORTEST_VOWEL_S:
        coda_s = 0.0
    onset_s = min(onset_s, stop_s - start_s - _SHORTEST_VOWEL_S)
    if onset is not None:
        phonemes.append(ScorePhoneme(onset, start_s, start_s + onset_s))
    phonemes.append(ScorePhoneme(vowel, start_s + onset_s, stop_s - coda_s))
    if coda is not None and coda_s > 0.0:
        phonemes.append(ScorePhoneme(coda, stop_s - coda_s, stop_s))
    return start_s + onset_s


def _consonant_s(rng: np.random.Generator, symbol: str | None) -> float:
    if symbol is None:
        return 0.0
    return float(rng.uniform(*PHONEMES[symbol].duration_s))
