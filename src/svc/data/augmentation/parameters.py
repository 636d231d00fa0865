"""What happens to which training sample: a pure function of the seed and the sample's number.

Drawing is apart from applying: this module draws, `key_shift`, `time_stretch` and the crop reader
apply. Sample k is augmented alike whatever the batch size, the number of loading workers and the
number of times the run was stopped and resumed, as `svc.data.sampling` has it for the crops.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from svc.data.sampling import uniform
from svc.errors import UserError

_WORDS_PER_SAMPLE = 8
"""Two for each kind of augmentation: whether it happens and how much. In the order of
`Augmentation` and at fixed places, so that switching one on changes nothing about the others."""

_WORDS_PER_COUNT = 4
_STREAM = 1
"""Upper half of the Philox key; the crops of the same seed have 0."""


@dataclass(frozen=True)
class KeyShift:
    """The crop is played faster or slower, which moves pitch and formants alike.

    Raises:
        UserError: a value is out of range; the same for the other options.
    """

    probability: float = 0.0
    min_semitones: float = -5.0
    max_semitones: float = 5.0
    """Any fraction of a semitone between the two, all alike likely; at most an octave."""

    def __post_init__(self) -> None:
        _check_probability("key_shift", self.probability)
        _check_range("key_shift", "semitones", self.min_semitones, self.max_semitones, -12.0, 12.0)


@dataclass(frozen=True)
class Loudness:
    """A gain on audio, energy and mel alike, less where the crop would clip."""

    probability: float = 0.0
    min_db: float = -12.0
    max_db: float = 6.0

    def __post_init__(self) -> None:
        _check_probability("loudness", self.probability)
        _check_range("loudness", "db", self.min_db, self.max_db, -60.0, 60.0)


@dataclass(frozen=True)
class TimeStretch:
    """Another tempo at the same pitch."""

    probability: float = 0.0
    min_rate: float = 0.8
    max_rate: float = 1.25
    """Times as fast, likely alike on a logarithmic scale; from 0.5 to 2."""

    def __post_init__(self) -> None:
        _check_probability("time_stretch", self.probability)
        _check_range("time_stretch", "rate", self.min_rate, self.max_rate, 0.5, 2.0)


@dataclass(frozen=True)
class PerturbedContent:
    """The content of a perturbed copy of the audio in place of the audio's own."""

    probability: float = 0.0

    def __post_init__(self) -> None:
        _check_probability("perturbed_content", self.probability)


@dataclass(frozen=True)
class Augmentation:
    """Everything that can happen to a training crop, each with its probability and range."""

    key_shift: KeyShift = field(default_factory=KeyShift)
    loudness: Loudness = field(default_factory=Loudness)
    time_stretch: TimeStretch = field(default_factory=TimeStretch)
    perturbed_content: PerturbedContent = field(default_factory=PerturbedContent)

    @property
    def changes_sound(self) -> bool:
        """Whether audio, and so the mel, can differ from what is stored."""
        parts = (self.key_shift, self.loudness, self.time_stretch)
        return any(part.probability > 0 for part in parts)

    @property
    def active(self) -> bool:
        """Whether anything can happen at all."""
        return self.changes_sound or self.perturbed_content.probability > 0


@dataclass(frozen=True)
class SampleAugmentation:
    """What happens to one sample; as it stands here, nothing."""

    key_shift_semitones: float = 0.0
    gain_db: float = 0.0
    """Wanted; the crop's peak may allow less."""
    rate: float = 1.0
    """Of the time stretch."""
    content_variant: int = 0
    """0 for the content of the audio as it is, else 1 to the number of stored variants."""

    @property
    def pitch_ratio(self) -> float:
        """What F0 is multiplied by."""
        return float(2 ** (self.key_shift_semitones / 12))

    @property
    def speed(self) -> float:
        """Stored frames that pass in one frame of the sample: a key shift changes the tempo too."""
        return self.pitch_ratio * self.rate

    @property
    def changes_sound(self) -> bool:
        """Whether the audio differs from what is stored."""
        return self.speed != 1.0 or self.gain_db != 0.0


class AugmentationDraw:
    """Draws what happens to each sample.

    Args:
        augmentation: probabilities and ranges.
        seed: that of the crops, from 0 to 2^64 - 1; the numbers are others than theirs.
        content_variants: stored variants of the content to choose from.

    Raises:
        ValueError: perturbed content is to be drawn and there is none.
    """

    def __init__(self, augmentation: Augmentation, seed: int, content_variants: int = 0) -> None:
        if augmentation.perturbed_content.probability > 0 and content_variants < 1:
            raise ValueError("there are no content variants to draw from")
        self._augmentation = augmentation
        self._seed = seed
        self._content_variants = content_variants

    def samples(self, first: int, count: int) -> list[SampleAugmentation]:
        """What happens to the samples first, first + 1, ..., first + count - 1."""
        generator = np.random.Philox(
            key=self._seed + (_STREAM << 64),
            counter=first * (_WORDS_PER_SAMPLE // _WORDS_PER_COUNT),
        )
        words = generator.random_raw(_WORDS_PER_SAMPLE * count).reshape(count, _WORDS_PER_SAMPLE)
        return [self._sample(row) for row in uniform(words)]

    def _sample(self, numbers: NDArray[np.float64]) -> SampleAugmentation:
        options = self._augmentation
        key, loudness, stretch = options.key_shift, options.loudness, options.time_stretch
        semitones = key.min_semitones + (key.max_semitones - key.min_semitones) * numbers[1]
        gain_db = loudness.min_db + (loudness.max_db - loudness.min_db) * numbers[3]
        rate = stretch.min_rate * (stretch.max_rate / stretch.min_rate) ** numbers[5]
        variant = 1 + int(numbers[7] * self._content_variants)
        return SampleAugmentation(
            float(semitones) if numbers[0] < key.probability else 0.0,
            float(gain_db) if numbers[2] < loudness.probability else 0.0,
            float(rate) if numbers[4] < stretch.probability else 1.0,
            variant if numbers[6] < options.perturbed_content.probability else 0,
        )


def _check_probability(name: str, probability: float) -> None:
    if not 0 <= probability <= 1:
        raise UserError(
            f"augmentation.online.{name}.probability={probability} must be from 0 to 1."
        )


def _check_range(
    name: str, unit: str, least: float, most: float, lowest: float, highest: float
) -> None:
    # Written so that NaN is refused.
    if not (math.isfinite(least) and lowest <= least <= most <= highest):
        raise UserError(
            f"augmentation.online.{name}.min_{unit}={least} and max_{unit}={most} must rise and "
            f"lie from {lowest:g} to {highest:g}."
        )
