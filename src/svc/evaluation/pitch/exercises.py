"""What singers practise, and what trackers stumble over: scores for voices of exact F0."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from svc.data.demo.glottal import phase_cycles
from svc.data.demo.performance import CONTROL_RATE_HZ, Performance, perform
from svc.data.demo.phonemes import SILENCE, VOWELS
from svc.data.demo.scores import Note, Score, ScorePhoneme, random_score
from svc.data.demo.singers import SINGERS, Singer, singer_by_name

ScoreMaker = Callable[[np.random.Generator, float], Score]
"""(rng, duration_s) -> what to sing."""
Manner = Callable[[Performance, np.random.Generator], Performance]
"""(performance, rng) -> the performance as the folds carry it out, around the same F0."""


@dataclass(frozen=True)
class Exercise:
    """One kind of singing."""

    name: str
    singer: Singer
    score: ScoreMaker
    manner: Manner | None = None
    """Irregularity of the single cycles, which is not part of the F0 to be found."""

    def sing(self, rng: np.random.Generator, duration_s: float) -> tuple[Performance, Performance]:
        """The performance to render, and the one whose F0 and voicing are the truth."""
        truth = perform(self.score(rng, duration_s), self.singer, rng)
        return (truth if self.manner is None else self.manner(truth, rng)), truth


@dataclass(frozen=True)
class Vocalise:
    """Vowels on a melody of free range, length and leaps, with short rests, no consonants."""

    range_semitones: tuple[int, int]
    """Lowest and highest note relative to the singer's tonic."""
    note_s: tuple[float, float]
    leap_semitones: tuple[int, int] | None
    """Smallest and largest step between notes. None: every note of the range in random order before
    any comes back."""
    effort: float = 0.6
    notes_between_rests: int = 5

    def __call__(self, rng: np.random.Generator, duration_s: float) -> Score:
        """A melody that begins and ends with 0.15 s of rest."""
        rest_s = 0.15
        phonemes = [ScorePhoneme(SILENCE, 0.0, rest_s)]
        notes: list[Note] = []
        melody = self._melody(rng)
        time_s, end_s = rest_s, duration_s - rest_s
        while end_s - time_s > 1e-6:
            length_s = float(rng.uniform(*self.note_s))
            if end_s - time_s - length_s < self.note_s[0]:
                length_s = end_s - time_s
            stop_s = time_s + length_s
            phonemes.append(ScorePhoneme(str(rng.choice(VOWELS)), time_s, stop_s))
            notes.append(Note(next(melody), time_s, time_s, stop_s, self.effort, accented=False))
            time_s = stop_s
            if len(notes) % self.notes_between_rests == 0 and end_s - time_s > 2 * rest_s:
                phonemes.append(ScorePhoneme(SILENCE, time_s, time_s + rest_s))
                time_s += rest_s
        phonemes.append(ScorePhoneme(SILENCE, end_s, duration_s))
        return Score(tuple(phonemes), tuple(notes), duration_s)

    def _melody(self, rng: np.random.Generator) -> Iterator[int]:
        """Semitones from the tonic, without end."""
        low, high = self.range_semitones
        if self.leap_semitones is None:
            while True:
                yield from rng.permutation(np.arange(low, high + 1)).tolist()
        note = int(rng.integers(low, high + 1))
        while True:
            yield note
            step = int(rng.integers(self.leap_semitones[0], self.leap_semitones[1] + 1))
            step *= int(rng.choice((-1, 1)))
            # The other way where it would leave the range.
            note = int(np.clip(note + (step if low <= note + step <= high else -step), low, high))


def creaky(performance: Performance, rng: np.random.Generator) -> Performance:
    """Vocal fry: cycles that alternate between long and short, strong and weak, irregularly.

    The alternation puts subharmonics at half of the F0, which remains the rate of closures. It is
    the period doubling of Titze, "Principles of Voice Production", 1994, kept weak (2 % in F0,
    8 % in level): twice as strong, Praat's own costs find the double cycle throughout.
    """
    phase = phase_cycles(performance.f0_hz)
    points = len(phase)
    # At whole phases the cosine alternates between 1 and -1, and the sine holds one sign throughout
    # each cycle. Jitter carries the closures past them: the doubling comes and goes.
    alternation = 1.0 + 0.02 * np.sin(np.pi * phase)
    every_s = 0.01
    nodes = np.arange(0.0, points / CONTROL_RATE_HZ + 2 * every_s, every_s)
    at_points = np.arange(points) / CONTROL_RATE_HZ
    jitter_cents = np.interp(at_points, nodes, 40.0 * rng.standard_normal(len(nodes)))
    return replace(
        performance,
        f0_hz=performance.f0_hz * alternation * 2.0 ** (jitter_cents / 1200.0),
        voice_gain=performance.voice_gain * (1.0 + 0.08 * np.cos(np.pi * phase)),
    )


_BASS, _ALTO, _TENOR, _SOPRANO = (
    singer_by_name(name) for name in ("bruno_bass", "alma_alto", "theo_tenor", "sofia_soprano")
)

EXERCISES: tuple[Exercise, ...] = (
    *(Exercise(f"phrase_{s.name.split('_')[1]}", s, random_score) for s in SINGERS),
    # 62 to 110 Hz; the drift and the vibrato of the singer reach down to 60.
    Exercise("low", replace(_BASS, key_midi=35), Vocalise((0, 10), (0.25, 0.45), None)),
    # 587 to 1175 Hz; the vibrato reaches 1220.
    Exercise("high", replace(_SOPRANO, key_midi=74), Vocalise((0, 12), (0.25, 0.4), None)),
    Exercise(
        "vibrato",
        replace(_TENOR, vibrato_depth_cents=120.0, vibrato_rate_hz=6.3, vibrato_delay_s=0.05),
        Vocalise((0, 14), (0.8, 1.3), (2, 5)),
    ),
    Exercise(
        "glides",
        replace(_ALTO, portamento_s=1.0, breathiness_db=-30.0),
        Vocalise((-7, 17), (0.6, 1.0), (7, 14)),
    ),
    Exercise(
        "fast",
        replace(_ALTO, portamento_s=0.03, breathiness_db=-30.0),
        Vocalise((-3, 12), (0.1, 0.14), (1, 4), notes_between_rests=16),
    ),
    Exercise(
        "breathy",
        replace(_ALTO, breathiness_db=-14.0, open_quotient=0.8),
        Vocalise((-5, 10), (0.3, 0.7), (1, 5), effort=0.35),
    ),
    # 73 to 117 Hz: half of it lies within the range that trackers search from 40 Hz on.
    Exercise(
        "creak",
        replace(_BASS, key_midi=38, vibrato_depth_cents=0.0, shimmer_db=1.0),
        Vocalise((0, 8), (0.4, 0.8), (1, 4), effort=0.45),
        manner=creaky,
    ),
)
"""From phrases with consonants, breaths and rests to what stands apart from ordinary singing."""
