"""Formant shift: the spectral envelope is stretched, pitch and timing stay."""

import numpy as np
from numpy.typing import NDArray

_WINDOW_SAMPLES = 2048
_HOP_SAMPLES = 512
_FEWEST, _MOST = 40, 130
"""Cepstral coefficients that count as envelope: detail coarser than 1100 or 340 Hz at 44.1 kHz."""
_LONGEST_PERIOD_SAMPLES = 800
_SHARE_OF_PERIOD = 0.75
"""The envelope must not resolve the harmonics: it ends before the cepstrum's peak, which is at the
period of the voice."""

_FLOOR = 1e-6
_MOST_GAIN = 30.0
"""Times that a bin is amplified at the most: noise in the valleys between formants stays noise."""

_BLOCK_FRAMES = 512
"""Frames at a time: a slice of a minute takes tens of megabytes, not hundreds."""


def shifted(audio: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """Multiply every formant frequency by `ratio`.

    Each frame of a Hann-windowed STFT is divided by its cepstral envelope (Oppenheim and Schafer,
    "Discrete-Time Signal Processing", homomorphic deconvolution) and multiplied by the same
    envelope stretched along frequency; the phase is kept.

    Args:
        audio: [T].
        ratio: above 1 for a shorter vocal tract, below for a longer one.

    Returns:
        [T].
    """
    if ratio == 1.0:
        return audio.copy()
    window = np.sqrt(np.hanning(_WINDOW_SAMPLES + 1)[:-1])
    frames = -(-len(audio) // _HOP_SAMPLES) + _WINDOW_SAMPLES // _HOP_SAMPLES
    before = _WINDOW_SAMPLES - _HOP_SAMPLES
    total = (frames - 1) * _HOP_SAMPLES + _WINDOW_SAMPLES
    padded = np.pad(audio, (before, total - before - len(audio)))
    cut = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::_HOP_SAMPLES]
    laid = np.zeros(total)
    for first in range(0, frames, _BLOCK_FRAMES):
        spectra = np.fft.rfft(cut[first : first + _BLOCK_FRAMES] * window)
        spectra *= _gains(np.abs(spectra), ratio)
        for offset, segment in enumerate(np.fft.irfft(spectra, _WINDOW_SAMPLES) * window):
            start = (first + offset) * _HOP_SAMPLES
            laid[start : start + _WINDOW_SAMPLES] += segment
    # Squared, the windows are Hann windows a quarter apart, which add up to 2.
    result: NDArray[np.float64] = laid[before : before + len(audio)] / 2
    return result


def _gains(magnitudes: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """[N, F] -> [N, F]: the stretched envelope over the envelope."""
    floor = _FLOOR + 1e-4 * magnitudes.max(axis=1, keepdims=True)
    cepstra = np.fft.irfft(np.log(magnitudes + floor))
    half = cepstra.shape[1] // 2 + 1
    periods = cepstra[:, _FEWEST:_LONGEST_PERIOD_SAMPLES].argmax(axis=1) + _FEWEST
    ends = np.clip(_SHARE_OF_PERIOD * periods, _FEWEST, _MOST)
    cepstra[:, :half] *= np.arange(half) < ends[:, None]
    cepstra[:, half:] = cepstra[:, half - 2 : 0 : -1]  # cepstra are even
    envelopes = np.fft.rfft(cepstra).real
    bins = envelopes.shape[1]
    places = np.minimum(np.arange(bins) / ratio, bins - 1.0)
    left = np.minimum(places.astype(np.int64), bins - 2)
    weight = places - left
    stretched = envelopes[:, left] * (1 - weight) + envelopes[:, left + 1] * weight
    most = np.log(_MOST_GAIN)
    result: NDArray[np.float64] = np.exp(np.clip(stretched - envelopes, -most, most))
    return result
