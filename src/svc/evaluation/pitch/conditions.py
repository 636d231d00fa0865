"""What happens to a voice on its way to the tracker: nothing, a room, noise."""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, signal
from torch import Tensor

from svc.errors import UserError

Samples = NDArray[np.float64]


class Condition(ABC):
    """Changes a recording and leaves its F0 and its timing as they were."""

    @abstractmethod
    def apply(self, audio: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """audio [T] float32 -> [T] float32; the direct sound stays on its samples."""


class Clean(Condition):
    """The recording as it is."""

    def apply(self, audio: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """audio [T], unchanged."""
        return audio


class Reverb(Condition):
    """A synthetic room: the direct sound, and noise behind it that decays exponentially.

    The model of late reverberation of Polack ("La transmission de l'energie sonore dans les
    salles", 1988), as described in Jot, Cerveau and Warusfel, AES 103rd convention, 1997.

    Args:
        rt60_s: time in which the reverberation falls by 60 dB.
        direct_to_reverberant_db: energy of the direct sound over that of the reverberation.
        gap_s: time between the direct sound and the reverberation.

    Raises:
        UserError: a time is out of range.
    """

    def __init__(
        self, rt60_s: float = 0.6, direct_to_reverberant_db: float = 3.0, gap_s: float = 0.005
    ) -> None:
        if not (0 < rt60_s <= 20 and 0 <= gap_s <= 1):
            raise UserError(
                f"A room with rt60_s={rt60_s:g} and gap_s={gap_s:g} cannot be made: expected "
                f"0 < rt60_s <= 20 and 0 <= gap_s <= 1."
            )
        self.rt60_s = rt60_s
        self.direct_to_reverberant_db = direct_to_reverberant_db
        self.gap_s = gap_s

    def impulse_response(self, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
        """[rt60_s + gap_s] of the room, with the direct sound as a 1 on its first sample."""
        tail_samples = math.ceil(self.rt60_s * sample_rate_hz)
        decay = 10.0 ** (-3.0 * np.arange(tail_samples) / (self.rt60_s * sample_rate_hz))
        tail = rng.standard_normal(tail_samples) * decay
        tail *= 10.0 ** (-self.direct_to_reverberant_db / 20.0) / np.sqrt(np.sum(tail**2))
        gap = np.zeros(max(round(self.gap_s * sample_rate_hz) - 1, 0))
        return np.concatenate([np.ones(1), gap, tail])

    def apply(self, audio: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """audio [T] float32 -> [T] float32; what rings on after the end is cut off."""
        response = self.impulse_response(sample_rate_hz, rng)
        wet = signal.oaconvolve(audio.double().numpy(), response)[: audio.shape[0]]
        return torch.from_numpy(wet).float()


class PinkNoise(Condition):
    """Noise whose power falls by 3 dB per octave, from 20 Hz upwards.

    Args:
        snr_db: power of the whole recording, rests included, over that of the noise.
    """

    def __init__(self, snr_db: float) -> None:
        self.snr_db = snr_db

    def apply(self, audio: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        """audio [T] float32 -> [T] float32."""
        samples = audio.double().numpy()
        noise = pink_noise(len(samples), sample_rate_hz, rng)
        power = np.mean(samples**2) / 10.0 ** (self.snr_db / 10.0)
        noise *= np.sqrt(power / max(np.mean(noise**2), 1e-30))
        return torch.from_numpy(samples + noise).float()


def pink_noise(samples: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """[samples] Gaussian noise with a power of 1/f above 20 Hz and none below."""
    spectrum = fft.rfft(rng.standard_normal(samples))
    frequencies_hz = fft.rfftfreq(samples, 1.0 / sample_rate_hz)
    spectrum[frequencies_hz < 20.0] = 0.0
    spectrum /= np.sqrt(np.maximum(frequencies_hz, 20.0))
    return np.asarray(fft.irfft(spectrum, samples), dtype=np.float64)
