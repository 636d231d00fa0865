"""Perturbed copies of a recording for its content encoder alone.

What an encoder says of a voice still tells who sings. A model that is trained to turn the content
of a perturbed copy into the voice as it was learns to rely on what the copies have in common: what
is sung. The idea is that of NANSY (Choi et al. 2021, "Neural Analysis and Synthesis: Reconstructing
Speech from Self-Supervised Representations": formant shift and random equaliser), to which noise
and reverberation add robustness against imperfect recordings.

The encoder has to run on every copy, so the copies' content is prepared and stored; training picks.
"""

import hashlib
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.data.augmentation import equaliser, formants, noise, reverberation
from svc.errors import UserError

_QUIETEST_RMS = 1e-5
"""Silence is left as it is: there is no level that noise could refer to."""


class ContentPerturbation:
    """Formant shift, random equaliser, reverberation and noise, each with a probability and range.

    They come in this order, as a voice, its body, the room and the microphone do. A copy has as
    many samples as the audio, nothing is delayed, and its RMS is the audio's (less where it would
    clip).

    Args:
        variants: V, how many copies of each slice.
        seed: decides what is drawn; a slice's copies depend on it, the slice's id and the audio.
        formant_probability: of each copy, as are the others.
        formant_max_ratio: the spectral envelope is stretched, or compressed, by up to this; from
            1 to 2.
        equaliser_probability, equaliser_max_db: random gains of up to this, either way, in each of
            ten bands.
        reverb_probability: of a synthetic room.
        reverb_min_s, reverb_max_s: reverberation time (RT60), at most 5 s.
        reverb_min_direct_db, reverb_max_direct_db: energy of the direct sound over the room's.
        noise_probability: of noise between white and brown.
        noise_min_snr_db, noise_max_snr_db: level of the audio over that of the noise.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        *,
        variants: int = 2,
        seed: int = 0,
        formant_probability: float = 1.0,
        formant_max_ratio: float = 1.3,
        equaliser_probability: float = 1.0,
        equaliser_max_db: float = 12.0,
        reverb_probability: float = 0.3,
        reverb_min_s: float = 0.1,
        reverb_max_s: float = 0.8,
        reverb_min_direct_db: float = 0.0,
        reverb_max_direct_db: float = 15.0,
        noise_probability: float = 0.5,
        noise_min_snr_db: float = 15.0,
        noise_max_snr_db: float = 40.0,
    ) -> None:
        if variants < 1 or seed < 0:
            raise UserError(
                f"augmentation.prepared.variants={variants} must be at least 1 and seed={seed} "
                f"not negative; augmentation.prepared=null makes no variants."
            )
        probabilities = {
            "formant": formant_probability,
            "equaliser": equaliser_probability,
            "reverb": reverb_probability,
            "noise": noise_probability,
        }
        for name, probability in probabilities.items():
            if not 0 <= probability <= 1:
                raise UserError(
                    f"augmentation.prepared.{name}_probability={probability} must be from 0 to 1."
                )
        _check_order("formant_max_ratio", 1.0, formant_max_ratio, 2.0)
        _check_order("equaliser_max_db", 0.0, equaliser_max_db, 30.0)
        _check_order("reverb_min_s and reverb_max_s", 0.01, reverb_min_s, reverb_max_s, 5.0)
        _check_order(
            "reverb_min_direct_db and reverb_max_direct_db",
            -60.0,
            reverb_min_direct_db,
            reverb_max_direct_db,
            60.0,
        )
        _check_order(
            "noise_min_snr_db and noise_max_snr_db",
            -20.0,
            noise_min_snr_db,
            noise_max_snr_db,
            120.0,
        )
        self.variants = variants
        self._seed = seed
        self._probabilities = probabilities
        self._formant_max_ratio = formant_max_ratio
        self._equaliser_max_db = equaliser_max_db
        self._reverb_s = (reverb_min_s, reverb_max_s)
        self._reverb_direct_db = (reverb_min_direct_db, reverb_max_direct_db)
        self._noise_snr_db = (noise_min_snr_db, noise_max_snr_db)

    def variants_of(self, audio: Tensor, sample_rate_hz: int, slice_id: str) -> Iterator[Tensor]:
        """The copies of a slice, one after the other.

        Args:
            audio: [T] float32 in [-1, 1].
            slice_id: what makes its random numbers its own.

        Yields:
            [T] float32 in [-1, 1].
        """
        samples = audio.numpy()
        for variant in range(1, self.variants + 1):
            text = f"{self._seed}/{slice_id}/{variant}"
            key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
            rng = np.random.Generator(np.random.Philox(key=key))
            yield torch.from_numpy(self.perturbed(samples, sample_rate_hz, rng))

    def perturbed(
        self, audio: NDArray[np.float32], sample_rate_hz: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """One copy: audio [T] in [-1, 1] -> [T] in [-1, 1], drawn from `rng`."""
        # All is drawn, whatever happens: one probability changes nothing about the other draws.
        happens = dict(zip(self._probabilities, rng.random(len(self._probabilities)), strict=True))
        does = {name: happens[name] < self._probabilities[name] for name in happens}
        ratio = self._formant_max_ratio ** rng.uniform(-1.0, 1.0)
        bands = equaliser.drawn_bands(rng, self._equaliser_max_db)
        decay_s, direct_db = rng.uniform(*self._reverb_s), rng.uniform(*self._reverb_direct_db)
        snr_db, colour = rng.uniform(*self._noise_snr_db), rng.uniform(0.0, 2.0)
        room_seed, noise_seed = rng.integers(2**63, size=2)

        level = _rms(audio)
        if level < _QUIETEST_RMS:
            return audio.copy()
        copy = audio.astype(np.float64)
        if does["formant"]:
            copy = formants.shifted(copy, ratio)
        if does["equaliser"]:
            copy = equaliser.equalised(copy, sample_rate_hz, bands)
        if does["reverb"]:
            room = reverberation.impulse_response(
                np.random.default_rng(room_seed), sample_rate_hz, decay_s, direct_db
            )
            copy = reverberation.in_room(copy, room)
        if does["noise"]:
            sound = noise.coloured(np.random.default_rng(noise_seed), len(copy), colour)
            copy = copy + sound * (_rms(copy) * 10 ** (-snr_db / 20))
        gain = level / max(_rms(copy), 1e-12)
        gain = min(gain, 1 / max(float(np.abs(copy).max()), 1e-12))
        return (copy * gain).astype(np.float32)


def _rms(audio: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0


def _check_order(name: str, *values: float) -> None:
    """Refuse values that do not rise between the first and the last, which are the bounds."""
    if not all(low <= high for low, high in itertools.pairwise(values)):
        given = " and ".join(f"{value:g}" for value in values[1:-1])
        raise UserError(
            f"augmentation.prepared.{name}={given} must rise and lie from {values[0]:g} to "
            f"{values[-1]:g}."
        )
