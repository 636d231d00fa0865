"""Loudness: one gain for audio, mel and energy."""

import numpy as np
from numpy.typing import NDArray


def gain_below_clipping(gain_db: float, audio: NDArray[np.float32]) -> np.float32:
    """The gain that is wanted, or as much of it as keeps the peak at full scale.

    Args:
        gain_db: wanted.
        audio: [T], full scale 1.

    Returns:
        A factor. For a gain of 0 dB too it is below 1 where the audio exceeds full scale, as
        resampled audio can.
    """
    peak = float(np.abs(audio).max(initial=0.0))
    return np.float32(min(10 ** (gain_db / 20), 1 / max(peak, 1e-9)))
