"""How a score is sung: exact F0, voicing, effort and articulation, before any voice is heard."""

from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from svc.data.demo.phonemes import NEUTRAL, PHONEMES, Phoneme, formant_table
from svc.data.demo.scores import Note, Score, ScorePhoneme
from svc.data.demo.singers import Singer

Floats = NDArray[np.float64]

SAMPLE_RATE_HZ = 44_100
CONTROL_SAMPLES = 64
"""Spacing of the control points. It divides half of the mel's hop of 512, so that the middle of
every mel frame is a control point and the truth there is read, not interpolated."""
CONTROL_RATE_HZ = SAMPLE_RATE_HZ / CONTROL_SAMPLES


@overload
def linear(level_db: float) -> float: ...
@overload
def linear(level_db: Floats) -> Floats: ...
def linear(level_db: float | Floats) -> float | Floats:
    """Decibels to a factor on amplitudes."""
    factor: float | Floats = 10.0 ** (level_db / 20.0)
    return factor


@dataclass(frozen=True)
class NoiseBurst:
    """Turbulence at a constriction in the mouth: a fricative or the release of a stop."""

    symbol: str
    start_sample: int
    stop_sample: int
    attack_s: float
    release_s: float


@dataclass(frozen=True)
class Performance:
    """One singing of a score, which any singer's voice can render, aligned to the sample.

    K = samples // CONTROL_SAMPLES + 1 control points; point k stands at sample
    CONTROL_SAMPLES * k, and every contour runs linearly between its points.
    """

    samples: int
    """T, a multiple of CONTROL_SAMPLES."""
    f0_hz: Floats
    """[K] with vibrato, glides, drift and jitter; runs on through what is unvoiced."""
    voiced: NDArray[np.bool_]
    """[K] whether the vocal folds vibrate."""
    voice_gain: Floats
    """[K] linear level of the glottal source: articulation, onsets, shimmer; 0 where unvoiced."""
    effort: Floats
    """[K] vocal effort, 0 pianissimo to 1 fortissimo."""
    formants_hz: Floats
    """[FORMANTS, K] in the reference vocal tract."""
    bandwidths_hz: Floats
    """[FORMANTS, K] in the reference vocal tract."""
    aspiration: Floats
    """[K] linear RMS of open-glottis noise relative to an average vowel: h, releases, breaths."""
    bursts: tuple[NoiseBurst, ...]
    """Turbulence in the mouth."""
    seed: int
    """Of the noise, so that every rendering hears the same one."""

    def transposed(self, semitones: float) -> "Performance":
        """The same performance in another key: nothing but F0 changes."""
        return replace(self, f0_hz=self.f0_hz * 2.0 ** (semitones / 12.0))

    def frame_f0_hz(self, hop_samples: int = 512) -> NDArray[np.float32]:
        """[N] exact F0 in the middle of each mel frame, N = T // hop_samples."""
        return self.f0_hz[self._frame_points(hop_samples)].astype(np.float32)

    def frame_voiced(self, hop_samples: int = 512) -> NDArray[np.bool_]:
        """[N] exact voicing in the middle of each mel frame."""
        return self.voiced[self._frame_points(hop_samples)]

    def _frame_points(self, hop_samples: int) -> NDArray[np.int64]:
        if hop_samples % (2 * CONTROL_SAMPLES):
            raise ValueError(
                f"hop_samples={hop_samples} is not a multiple of {2 * CONTROL_SAMPLES}."
            )
        frames = np.arange(self.samples // hop_samples, dtype=np.int64)
        return (hop_samples * frames + hop_samples // 2) // CONTROL_SAMPLES


def perform(score: Score, singer: Singer, rng: np.random.Generator) -> Performance:
    """`singer` sings `score` in their own key and manner.

    Args:
        score: what to sing.
        singer: whose key, vibrato, glides and irregularities to use.
        rng: the only source of randomness.
    """
    points = int(score.duration_s * CONTROL_RATE_HZ + 1e-6) + 1
    times_s = np.arange(points) / CONTROL_RATE_HZ
    phonemes = tuple(_on_control_grid(p) for p in score.phonemes)
    index = np.searchsorted([p.start_s for p in phonemes[1:]], times_s, side="right")
    sounds = [PHONEMES[p.symbol] for p in phonemes]
    voiced = np.array([sound.voiced for sound in sounds])[index]
    vibrato = _vibrato(score.notes, singer, times_s, rng)
    semitones = _melody(score.notes, singer, times_s, rng) + vibrato
    semitones += _smooth_noise(rng, points, 0.01 * singer.jitter_cents, deviation_s=0.002)
    semitones += _smooth_noise(rng, points, 0.06, deviation_s=0.12)
    # A swing of pitch carries a swing of level with it.
    shimmer_db = 2.0 * vibrato + _smooth_noise(rng, points, singer.shimmer_db, deviation_s=0.002)
    formants_hz, bandwidths_hz = _articulation(phonemes, sounds, times_s, rng)
    return Performance(
        samples=(points - 1) * CONTROL_SAMPLES,
        f0_hz=singer.key_hz * 2.0 ** (semitones / 12.0),
        voiced=voiced,
        voice_gain=_voice_gain(phonemes, sounds, times_s) * voiced * linear(shimmer_db),
        effort=_effort(score.notes, times_s, rng),
        formants_hz=formants_hz,
        bandwidths_hz=bandwidths_hz,
        aspiration=_aspiration(phonemes, sounds, times_s),
        bursts=tuple(_bursts(phonemes, sounds)),
        seed=int(rng.integers(2**63)),
    )


def _on_control_grid(phoneme: ScorePhoneme) -> ScorePhoneme:
    start = round(phoneme.start_s * CONTROL_RATE_HZ) / CONTROL_RATE_HZ
    stop = round(phoneme.stop_s * CONTROL_RATE_HZ) / CONTROL_RATE_HZ
    return replace(phoneme, start_s=start, stop_s=stop)


def _ramp(position: Floats) -> Floats:
    """A smooth step from 0 at position 0 to 1 at position 1, with level ends."""
    x = np.clip(position, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _glide(times_s: Floats, starts_s: Floats, widths_s: Floats, targets: Floats) -> Floats:
    """Targets [..., P] joined by smooth glides; glide i begins at starts_s [P-1] and takes
    widths_s [P-1]. Glides that overlap add up, so a short target is undershot, as in speech."""
    steps = np.diff(targets, axis=-1)
    ramps = _ramp((times_s - starts_s[:, None]) / widths_s[:, None])
    return targets[..., :1] + steps @ ramps


def _smooth_noise(
    rng: np.random.Generator, points: int, deviation: float, *, deviation_s: float
) -> Floats:
    """[points] Gaussian noise of standard deviation `deviation`, smoothed by a Gaussian in time."""
    sigma = deviation_s * CONTROL_RATE_HZ
    white = rng.standard_normal(points)
    # Smoothing leaves 1 / (2 sqrt(pi) sigma) of the variance of white noise.
    gain = deviation * np.sqrt(2.0 * np.sqrt(np.pi) * sigma)
    return np.asarray(gain * gaussian_filter1d(white, sigma, mode="reflect"), dtype=np.float64)


def _melody(
    notes: tuple[Note, ...], singer: Singer, times_s: Floats, rng: np.random.Generator
) -> Floats:
    """[K] semitones from the tonic: notes, the glides between them, scoops into some of them."""
    pitches = np.array([float(note.semitones) for note in notes])
    lengths_s = np.array([note.stop_s - note.start_s for note in notes])
    onsets_s = np.array([note.vowel_s for note in notes])
    widths_s = singer.portamento_s * rng.uniform(0.7, 1.5, len(notes) - 1)
    widths_s = np.minimum(widths_s, 0.6 * np.minimum(lengths_s[:-1], lengths_s[1:]))
    contour = _glide(times_s, onsets_s[1:] - 0.7 * widths_s, widths_s, pitches)
    scoops = rng.uniform(0.5, 1.5, len(notes)) * (rng.random(len(notes)) < 0.15)
    for onset_s, depth in zip(onsets_s, scoops, strict=True):
        since = times_s - (onset_s - 0.06)
        contour -= depth * _ramp(since / 0.06) * (1.0 - _ramp((since - 0.06) / 0.12))
    return contour


def _vibrato(
    notes: tuple[Note, ...], singer: Singer, times_s: Floats, rng: np.random.Generator
) -> Floats:
    """[K] semitones: sets in after a delay on notes that last, and eases off at their end."""
    rate_hz = singer.vibrato_rate_hz + _smooth_noise(rng, len(times_s), 0.25, deviation_s=0.2)
    phase = 2.0 * np.pi * (np.cumsum(rate_hz) / CONTROL_RATE_HZ + rng.random())
    depth = np.zeros_like(times_s)
    for note in notes:
        delay_s = singer.vibrato_delay_s * float(rng.uniform(0.6, 1.3))
        cents = singer.vibrato_depth_cents * float(rng.uniform(0.6, 1.3))
        if note.stop_s - note.vowel_s > delay_s + 0.15:
            rise = _ramp((times_s - note.vowel_s - delay_s) / 0.25)
            depth += cents / 100.0 * rise * (1.0 - _ramp((times_s - note.stop_s + 0.08) / 0.08))
    return depth * np.sin(phase)


def _effort(notes: tuple[Note, ...], times_s: Floats, rng: np.random.Generator) -> Floats:
    """[K] in [0, 1]: the notes' dynamics joined smoothly, accents that die away, slow drift."""
    starts_s = np.array([note.start_s for note in notes])
    targets = np.array([note.effort for note in notes])
    widths_s = np.full(len(notes) - 1, 0.1)
    effort = _glide(times_s, starts_s[1:] - 0.05, widths_s, targets)
    for note in notes:
        if note.accented:
            since = times_s - note.start_s
            decay = np.exp(-np.maximum(since, 0.0) / 0.15)
            effort += 0.2 * _ramp(since / 0.03) * decay
    effort += _smooth_noise(rng, len(times_s), 0.03, deviation_s=0.15)
    return np.clip(effort, 0.0, 1.0)


def _articulation(
    phonemes: tuple[ScorePhoneme, ...],
    sounds: list[Phoneme],
    times_s: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Formants and bandwidths [FORMANTS, K] that move between targets within 40 to 80 ms."""
    targets = []
    # What has no posture of its own takes that of the next sound; the last rest is neutral.
    posture = NEUTRAL
    for sound in reversed(sounds):
        posture = sound.posture or posture
        targets.append(posture)
    # Formants glide on a logarithmic axis, where equal steps sound equal.
    logs = np.log(formant_table(targets[::-1]))
    starts_s = np.array([p.start_s for p in phonemes[1:]])
    widths_s = rng.uniform(0.04, 0.08, len(starts_s))
    tracks = np.exp(_glide(times_s, starts_s - 0.5 * widths_s, widths_s, logs))
    return tracks[0], tracks[1]


def _voice_gain(
    phonemes: tuple[ScorePhoneme, ...], sounds: list[Phoneme], times_s: Floats
) -> Floats:
    """[K] linear level of the glottal source, with onsets of 20 ms and ends of 35 ms."""
    gains = np.array([0.0 if s.voice_db is None else linear(s.voice_db) for s in sounds])
    starts_s = np.array([p.start_s for p in phonemes[1:]])
    begins = (gains[:-1] == 0.0) & (gains[1:] > 0.0)
    ends = (gains[:-1] > 0.0) & (gains[1:] == 0.0)
    widths_s = np.where(begins, 0.02, np.where(ends, 0.035, 0.03))
    # A voice that begins rises after the boundary; one that ends has died away at it.
    lead_s = np.where(begins, 0.0, np.where(ends, widths_s, 0.5 * widths_s))
    return np.maximum(_glide(times_s, starts_s - lead_s, widths_s, gains), 0.0)


def _aspiration(
    phonemes: tuple[ScorePhoneme, ...], sounds: list[Phoneme], times_s: Floats
) -> Floats:
    """[K] linear level of noise from an open glottis."""
    level = np.zeros_like(times_s)
    for phoneme, sound in zip(phonemes, sounds, strict=True):
        if sound.aspiration_db is None:
            continue
        length_s = phoneme.stop_s - phoneme.start_s
        attack_s, release_s = (0.4 * length_s, 0.3 * length_s)
        start_s = phoneme.start_s
        if sound.kind == "stop":
            start_s, attack_s, release_s = phoneme.stop_s - _release_s(length_s), 0.005, 0.02
        rise = _ramp((times_s - start_s) / attack_s)
        # It dies away a little into the sound that follows.
        fall = 1.0 - _ramp((times_s - phoneme.stop_s - 0.01 + release_s) / release_s)
        level += linear(sound.aspiration_db) * rise * fall
    return level


def _release_s(stop_length_s: float) -> float:
    """From the release of a voiceless stop to the onset of the voice."""
    return min(0.035, 0.4 * stop_length_s)


def _bursts(phonemes: tuple[ScorePhoneme, ...], sounds: list[Phoneme]) -> list[NoiseBurst]:
    bursts = []
    for phoneme, sound in zip(phonemes, sounds, strict=True):
        if sound.noise is None:
            continue
        start_s, stop_s = phoneme.start_s - 0.01, phoneme.stop_s + 0.01
        attack_s, release_s = 0.03, 0.03
        if sound.kind == "stop":
            start_s = phoneme.stop_s - (0.008 if sound.voiced else _release_s(stop_s - start_s))
            stop_s, attack_s, release_s = start_s + 0.02, 0.001, 0.018
        start, stop = (round(t * SAMPLE_RATE_HZ) for t in (start_s, stop_s))
        bursts.append(NoiseBurst(phoneme.symbol, start, stop, attack_s, release_s))
    return bursts
