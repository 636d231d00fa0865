"""Noise of any colour between white and brown."""

import numpy as np
from numpy.typing import NDArray

_FLATTEST_BIN = 1 / 2000
"""Below this fraction of the sample rate (22 Hz at 44.1 kHz) the spectrum does not rise further."""


def coloured(rng: np.random.Generator, samples: int, colour: float) -> NDArray[np.float64]:
    """Gaussian noise with an RMS of 1.

    Args:
        rng: drawn from.
        samples: T.
        colour: its power falls as 1 / frequency^colour: 0 white, 1 pink, 2 brown.

    Returns:
        [T].
    """
    size = max(samples, 2)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.maximum(np.fft.rfftfreq(size), _FLATTEST_BIN)
    sound = np.fft.irfft(spectrum * frequency ** (-colour / 2), size)[:samples]
    result: NDArray[np.float64] = sound / max(float(np.sqrt(np.mean(sound**2))), 1e-12)
    return result
