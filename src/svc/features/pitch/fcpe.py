"""FCPE, a convolutional pitch tracker with packaged weights."""

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.errors import UserError
from svc.features.pitch.base import Pitch, PitchTracker
from svc.features.pitch.contour import check_range, checked_samples, on_frames, pitch_of
from svc.hashing import file_sha256

_RATE_HZ = 16_000
_STEP_SAMPLES = 160
_LOWEST_HZ, _HIGHEST_HZ = 32.7, 1975.5
_NEAR_BINS = 4
"""F0 is the mean of so many bins on either side of the best, weighted by their salience."""
_PIECE_FRAMES, _OVERLAP_FRAMES = 3000, 300
"""30 s with 3 s in common: six layers with kernels of 31 see 0.9 s to either side."""


class FcpePitch(PitchTracker):
    """FCPE: convolutions over a mel spectrogram that choose among 360 bins of 20 cents.

    Luo, Chen and Huang, "FCPE: A Fast Context-based Pitch Estimation Model" (2025), with the
    weights that the package torchfcpe ships (10.6 M parameters). The network reads 16 kHz and
    answers every 10 ms, frame i at 0.01 * i s to within 1 ms. Audio of over 30 s is read in
    overlapping pieces, so that memory does not grow with it.

    It was made on voices: of tones above about 1200 Hz and of pure sines below 100 Hz it is unsure.

    Args:
        f0_min_hz: lowest F0, at least 32.7.
        f0_max_hz: highest F0, at most 1975.5.
        threshold: salience (0 to 1) of the best bin from which a frame is voiced.
        device: where the network runs, such as "cpu" or "cuda".

    Raises:
        UserError: torchfcpe is not installed, or a value is out of range.
    """

    def __init__(
        self,
        f0_min_hz: float = 40.0,
        f0_max_hz: float = 1600.0,
        threshold: float = 0.1,
        device: Literal["cpu", "cuda"] | str = "cpu",
    ) -> None:
        self._weights = _weights_file()
        check_range(f0_min_hz, f0_max_hz, _HIGHEST_HZ)
        if f0_min_hz < _LOWEST_HZ:
            raise UserError(
                f"pitch.f0_min_hz={f0_min_hz:g} must be at least {_LOWEST_HZ} for FCPE."
            )
        if not 0 < threshold < 1:
            raise UserError(f"pitch.threshold={threshold:g} must lie between 0 and 1.")
        self.f0_min_hz = f0_min_hz
        self.f0_max_hz = f0_max_hz
        self.threshold = threshold
        self.device = device

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        """audio [T] float32 -> contour of N = T // hop_samples frames, on the CPU.

        Raises:
            ValueError: audio is not one-dimensional or not finite.
        """
        samples, frames = checked_samples(audio, hop_samples)
        if frames == 0:
            return pitch_of(np.zeros(0), self.f0_min_hz, self.f0_max_hz)
        resampled = soxr.resample(samples, sample_rate_hz, _RATE_HZ).astype(np.float32)
        raw = self._raw_f0(torch.from_numpy(resampled.clip(-1, 1)))
        f0_hz, _ = on_frames(
            raw, _STEP_SAMPLES / _RATE_HZ, 0.0, frames, hop_samples / sample_rate_hz
        )
        return pitch_of(f0_hz, self.f0_min_hz, self.f0_max_hz)

    def identity(self) -> dict[str, str]:
        """The hash of the weights."""
        return {"weights_sha256": file_sha256(self._weights)}

    def __getstate__(self) -> dict[str, Any]:
        """The network stays behind; another process loads its own."""
        return {key: value for key, value in self.__dict__.items() if key != "_network"}

    @torch.no_grad()
    def _raw_f0(self, samples: Tensor) -> NDArray[np.float64]:
        """samples [T] at 16 kHz -> F0 every 10 ms, 0 where unvoiced."""
        count = samples.shape[0] // _STEP_SAMPLES + 1
        f0_hz = np.zeros(count)
        for start in range(0, max(count - _OVERLAP_FRAMES, 1), _PIECE_FRAMES - _OVERLAP_FRAMES):
            piece = samples[start * _STEP_SAMPLES : (start + _PIECE_FRAMES) * _STEP_SAMPLES]
            found = self._piece_f0(piece.to(self.device))[: count - start]
            skip = _OVERLAP_FRAMES // 2 if start else 0
            f0_hz[start + skip : start + len(found)] = found[skip:]
        return f0_hz

    def _piece_f0(self, samples: Tensor) -> NDArray[np.float64]:
        mel = self._network.wav2mel(samples[None, :, None], _RATE_HZ)
        salience = self._network.model(mel)[0]
        cents = self._network.model.cent_table
        low, high = (1200 * np.log2(hz / 10) for hz in (self.f0_min_hz, self.f0_max_hz))
        allowed = torch.where((cents >= low) & (cents <= high), salience, 0.0)
        confidence, best = allowed.max(dim=1)
        near = best[:, None] + torch.arange(-_NEAR_BINS, _NEAR_BINS + 1, device=best.device)
        near = near.clamp(0, len(cents) - 1)
        weight = salience.gather(1, near).clamp_min(1e-9)
        mean_cents = (weight * cents[near]).sum(dim=1) / weight.sum(dim=1)
        f0_hz = torch.where(confidence > self.threshold, 10 * 2 ** (mean_cents / 1200), 0.0)
        result: NDArray[np.float64] = f0_hz.double().cpu().numpy()
        return result

    @cached_property
    def _network(self) -> Any:
        # Its own loader prints, and unpickles whatever the file holds.
        from torchfcpe.models_infer import InferCFNaiveMelPE
        from torchfcpe.tools import DotDict

        stored = torch.load(self._weights, map_location="cpu", weights_only=True)
        config = stored["config_dict"]
        config["model"] |= {"conv_dropout": 0.0, "atten_dropout": 0.0, "use_harmonic_emb": False}
        network = InferCFNaiveMelPE(DotDict(config), stored["model"])
        return network.to(self.device).eval()


def _weights_file() -> Path:
    # Found without importing the package, which would import librosa.
    package = find_spec("torchfcpe")
    if package is None or package.origin is None:
        raise UserError(
            'pitch=fcpe needs torchfcpe, which is not installed: pip install "svc[fcpe]". '
            "pitch=parselmouth works without it."
        )
    return Path(package.origin).parent / "assets" / "fcpe_c_v001.pt"
