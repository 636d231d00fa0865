"""Key shift by playing at another speed: exact for a waveform, without artefacts.

What diffusion models train with is a mel extracted again with a longer or shorter analysis window,
which moves pitch and formants by the same interval. A waveform that has such a mel is the recording
resampled: what sounds k semitones higher also passes 2^(k/12) times as fast, so content, F0 and
energy are read at the places that the resampled audio comes from.
"""

import numpy as np
import soxr
from numpy.typing import NDArray

_NOMINAL_RATE_HZ = 44_100.0
"""The resampler wants rates; only their ratio matters."""

EDGE_SAMPLES = 512
"""At either end of a resampled signal, what its filters make of the void around it."""


def played_at(audio: NDArray[np.float32], speed: float, samples: int) -> NDArray[np.float32]:
    """Sample n of the result is the sound of `audio` at n * speed.

    Args:
        audio: [T] with T >= samples * speed.
        speed: 2^(k/12) sounds k semitones higher.
        samples: length of the result.

    Returns:
        [samples]; what lies above half the sample rate is filtered away. The first and last
        `EDGE_SAMPLES` are not exact.
    """
    if speed == 1.0:
        return audio[:samples]
    played: NDArray[np.float32] = soxr.resample(audio, _NOMINAL_RATE_HZ * speed, _NOMINAL_RATE_HZ)
    if len(played) < samples:  # rounding of the length, at an end that is not exact anyway
        played = np.pad(played, (0, samples - len(played)))
    return played[:samples]
