"""Synthetic rooms: exponentially decaying noise after the direct sound.

Statistical reverberation (Moorer 1979, "About this reverberation business"): beyond the first
reflections the impulse response of a room is Gaussian noise whose level falls by 60 dB in the
reverberation time.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

_FIRST_REFLECTION_S = 0.003
"""About a metre of detour."""


def impulse_response(
    rng: np.random.Generator, sample_rate_hz: int, decay_s: float, direct_db: float
) -> NDArray[np.float64]:
    """The impulse response of a room.

    Args:
        rng: drawn from.
        sample_rate_hz: of the result.
        decay_s: reverberation time, RT60.
        direct_db: energy of the direct sound over that of everything after it.

    Returns:
        [round(decay_s * sample_rate_hz) + 1]; the direct sound is sample 0 and 1.
    """
    time_s = np.arange(1, round(decay_s * sample_rate_hz) + 1) / sample_rate_hz
    tail = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / decay_s)
    tail[time_s < _FIRST_REFLECTION_S] = 0.0
    tail *= 10 ** (-direct_db / 20) / max(float(np.linalg.norm(tail)), 1e-12)
    return np.concatenate([[1.0], tail])


def in_room(audio: NDArray[np.float64], room: NDArray[np.float64]) -> NDArray[np.float64]:
    """audio [T] as heard in a room, [T]; the direct sound is not delayed, what rings on is cut."""
    heard: NDArray[np.float64] = oaconvolve(audio, room)[: len(audio)]
    return heard
