"""The sounds that the synthetic singers can make, for a reference vocal tract of 17.5 cm.

Formant frequencies of the vowels follow Peterson and Barney, "Control methods used in a study of
the vowels", JASA 24 (1952), men; consonant loci and bandwidths follow Klatt, "Software for a
cascade/parallel formant synthesizer", JASA 67 (1980), table II and III.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["vowel", "sonorant", "fricative", "stop", "aspirate", "breath", "silence"]

FORMANTS = 6
"""Formants that move; the ones above belong to the singer and stand still."""


@dataclass(frozen=True)
class NoiseShape:
    """Magnitude spectrum of turbulence: bells on a logarithmic frequency axis over a floor."""

    bells: tuple[tuple[float, float, float], ...]
    """(centre in Hz, standard deviation in octaves, height in dB) of each bell."""
    floor_db: float = -45.0


@dataclass(frozen=True)
class Posture:
    """Where the articulators stand, as the resonances that this makes."""

    formants_hz: tuple[float, ...]
    """[FORMANTS]."""
    bandwidths_hz: tuple[float, ...]
    """[FORMANTS]."""


@dataclass(frozen=True)
class Phoneme:
    """One speech sound."""

    kind: Kind
    posture: Posture | None = None
    """None: the articulators already stand where the next sound needs them."""
    voice_db: float | None = None
    """Level of the glottal source; 0 is that of a typical vowel. None: unvoiced."""
    noise: NoiseShape | None = None
    """Turbulence at a constriction in the mouth: all of a fricative, the burst of a stop."""
    noise_db: float = 0.0
    """RMS of that turbulence relative to the RMS of an average vowel."""
    aspiration_db: float | None = None
    """Turbulence at the glottis, which the whole vocal tract colours: RMS as `noise_db`."""
    duration_s: tuple[float, float] = (0.05, 0.09)
    """Shortest and longest when it is a consonant; vowels fill what is left of their note."""

    @property
    def voiced(self) -> bool:
        """Whether the vocal folds vibrate."""
        return self.voice_db is not None


_OPEN = (75.0, 90.0, 130.0, 190.0, 260.0, 340.0)
_NASAL = (110.0, 220.0, 280.0, 320.0, 380.0, 450.0)
_CLOSED = (90.0, 130.0, 190.0, 250.0, 320.0, 400.0)


def _posture(f1: float, f2: float, f3: float, bandwidths_hz: tuple[float, ...]) -> Posture:
    return Posture((f1, f2, f3, max(3400.0, f3 + 550.0), 4350.0, 5350.0), bandwidths_hz)


def _vowel(f1: float, f2: float, f3: float, voice_db: float) -> Phoneme:
    # Singers even out a part of the differences in loudness that the tract makes.
    return Phoneme("vowel", _posture(f1, f2, f3, _OPEN), voice_db=voice_db)


def _sonorant(f1: float, f2: float, f3: float, voice_db: float, *, nasal: bool = False) -> Phoneme:
    posture = _posture(f1, f2, f3, _NASAL if nasal else _CLOSED)
    return Phoneme("sonorant", posture, voice_db=voice_db, duration_s=(0.06, 0.11))


def _fricative(
    f2: float, f3: float, noise: NoiseShape, noise_db: float, voice_db: float | None = None
) -> Phoneme:
    return Phoneme(
        "fricative",
        _posture(300.0, f2, f3, _CLOSED),
        voice_db=voice_db,
        noise=noise,
        noise_db=noise_db,
        duration_s=(0.07, 0.15) if voice_db is None else (0.06, 0.1),
    )


def _stop(
    f2: float, f3: float, noise: NoiseShape, noise_db: float, voice_db: float | None = None
) -> Phoneme:
    return Phoneme(
        "stop",
        _posture(230.0, f2, f3, _CLOSED),
        voice_db=voice_db,
        noise=noise,
        noise_db=noise_db,
        # After a voiceless release the glottis is still open for a moment.
        aspiration_db=-22.0 if voice_db is None else None,
        duration_s=(0.08, 0.12) if voice_db is None else (0.05, 0.08),
    )


_S = NoiseShape(((6800.0, 0.35, 0.0), (11000.0, 0.35, -6.0)))
_SH = NoiseShape(((2900.0, 0.28, 0.0), (5200.0, 0.5, -5.0)))
_F = NoiseShape(((1500.0, 0.9, -6.0), (8500.0, 0.9, 0.0)), floor_db=-30.0)
_BURST_LABIAL = NoiseShape(((700.0, 1.0, 0.0), (2500.0, 1.5, -10.0)))
_BURST_ALVEOLAR = NoiseShape(((4200.0, 0.6, 0.0), (8000.0, 0.5, -6.0)))
_BURST_VELAR = NoiseShape(((1800.0, 0.35, 0.0), (5000.0, 0.6, -10.0)))

NEUTRAL = _posture(490, 1350, 2350, _OPEN)
SILENCE = "_"
BREATH = "breath"

PHONEMES: dict[str, Phoneme] = {
    "a": _vowel(730, 1090, 2440, -3.0),
    "ae": _vowel(660, 1720, 2410, -2.0),
    "E": _vowel(530, 1840, 2480, -1.0),
    "e": _vowel(400, 2050, 2600, 1.0),
    "i": _vowel(280, 2280, 3000, 4.0),
    "y": _vowel(290, 1850, 2200, 4.0),
    "@": Phoneme("vowel", NEUTRAL, voice_db=1.0),
    "O": _vowel(570, 850, 2410, -4.0),
    "o": _vowel(420, 760, 2380, -1.0),
    "u": _vowel(310, 820, 2240, 3.0),
    "m": _sonorant(260, 1050, 2200, -7.0, nasal=True),
    "n": _sonorant(260, 1450, 2500, -7.0, nasal=True),
    "l": _sonorant(330, 1150, 2750, -4.0),
    "r": _sonorant(370, 1150, 1600, -4.0),
    "j": _sonorant(270, 2200, 2950, -4.0),
    "w": _sonorant(290, 650, 2150, -4.0),
    "s": _fricative(1650, 2550, _S, -13.0),
    "sh": _fricative(1900, 2450, _SH, -11.0),
    "f": _fricative(1000, 2150, _F, -25.0),
    "z": _fricative(1650, 2550, _S, -19.0, voice_db=-7.0),
    "v": _fricative(1000, 2150, _F, -30.0, voice_db=-6.0),
    "p": _stop(850, 2150, _BURST_LABIAL, -17.0),
    "t": _stop(1750, 2650, _BURST_ALVEOLAR, -12.0),
    "k": _stop(1950, 2350, _BURST_VELAR, -12.0),
    "b": _stop(850, 2150, _BURST_LABIAL, -21.0, voice_db=-12.0),
    "d": _stop(1750, 2650, _BURST_ALVEOLAR, -18.0, voice_db=-12.0),
    "g": _stop(1950, 2350, _BURST_VELAR, -18.0, voice_db=-12.0),
    "h": Phoneme("aspirate", aspiration_db=-16.0, duration_s=(0.06, 0.11)),
    BREATH: Phoneme("breath", aspiration_db=-24.0),
    SILENCE: Phoneme("silence"),
}

VOWELS = tuple(symbol for symbol, p in PHONEMES.items() if p.kind == "vowel")
CONSONANTS = tuple(
    symbol for symbol, p in PHONEMES.items() if p.kind not in ("vowel", "breath", "silence")
)
CODAS = ("m", "n", "l", "s", "sh", "f", "t", "k", "z")
"""Consonants that may end a syllable."""


def formant_table(postures: Sequence[Posture]) -> NDArray[np.float64]:
    """[2, FORMANTS, P] frequencies and bandwidths in Hz of P postures."""
    table = [[posture.formants_hz, posture.bandwidths_hz] for posture in postures]
    return np.array(table).transpose(1, 2, 0)


VOWEL_FORMANTS = formant_table(
    [p.posture for p in PHONEMES.values() if p.kind == "vowel" and p.posture]
)
"""`formant_table` of VOWELS."""
