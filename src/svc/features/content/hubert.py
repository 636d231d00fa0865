"""Content from HuBERT and its relatives: HuBERT-soft, ContentVec, and plain layers."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import soxr
import torch
from torch import Tensor

from svc.checkpoints.layouts.hubert import convert_hubert
from svc.checkpoints.safe_reading import read_state_dict
from svc.checkpoints.weights import weights_file
from svc.errors import UserError
from svc.features.content.base import ContentEncoder, FrameGrid, checked_audio
from svc.features.content.standardisation import standardised
from svc.hashing import file_sha256
from svc.models.hubert import (
    FRAME_SAMPLES,
    SEEN_SAMPLES,
    HubertNetwork,
    fairseq2_wav2vec2,
)

_RATE_HZ = 16_000
_MARGIN_FRAMES = 64
"""At the edge of a window the positional convolution, 128 frames wide, looks beyond it."""
_FADE_FRAMES = 72
_OVERLAP_FRAMES = 2 * _MARGIN_FRAMES + _FADE_FRAMES
"""Of two windows; 4 s."""
_MIN_WINDOW_S = 8.0
_MAX_WINDOW_S = 120.0
_SPREAD_FLOOR = 0.05
"""Of channels that hardly vary."""
_ACTIVE_DB = 40.0
"""Frames within this distance of the loudest one count as sounding."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class HubertContent(ContentEncoder):
    """A layer of HuBERT, or its final projection: 50 frames per second of what is said or sung.

    HuBERT: Hsu et al. 2021, "HuBERT: Self-Supervised Speech Representation Learning by Masked
    Prediction of Hidden Units". HuBERT-soft: van Niekerk et al. 2022, "A Comparison of Discrete and
    Soft Speech Units for Improved Voice Conversion". ContentVec: Qian et al. 2022, "ContentVec: An
    Improved Self-Supervised Speech Representation by Disentangling Speakers".

    Pieces up to `window_s` go through in one. The transformer's cost grows with the square of the
    length and it was trained on 15 s, so longer ones are cut into equal windows that overlap by
    4 s; 1.3 s at each inner edge are dropped and the rest is faded over. The convolutions before
    it, with their norm over the whole piece, are exact at any length.

    Frame i is centred at (200 - padding_samples + 320 i) / 16000 s: 400 samples make a frame.

    Args:
        weights: name in the registry of weights: "hubert_soft", "contentvec", "hubert_base" or
            "chinese_hubert". The file's layout is recognised.
        model: a file of weights instead of the registry's, or None.
        layer: the last transformer layer that is used, from 1; later ones are not even loaded.
        projection: put that layer through the final projection (256 channels).
        padding_samples: zeros at both ends, 0 to 200. HuBERT-soft was trained with 40, which makes
            exactly one frame of every 320 samples; ContentVec and others are used without.
        window_s: longest piece that the transformer sees at once, 8 to 120 s.
        precision: "bf16" is about twice as fast where the machine multiplies bf16; features
            stay within 1 % (relative L2) of "fp32".
        device: "cpu" or "cuda".
        batch_size: windows that go through the transformer together on a GPU. A CPU takes them one
            by one, which is as fast and needs no padding.
        standardise: give every channel mean 0 and about variance 1 over the piece (see
            `standardised`).
        offline: never fetch weights.

    Raises:
        UserError: fairseq2 or the weights are not there, the weights are not those of a HuBERT, or
            a value is out of range.
    """

    def __init__(
        self,
        weights: str = "hubert_soft",
        model: str | None = None,
        layer: int = 12,
        projection: bool = True,
        padding_samples: int = 40,
        window_s: float = 20.0,
        precision: Literal["fp32", "bf16"] = "fp32",
        device: Literal["cpu", "cuda"] = "cpu",
        batch_size: int = 8,
        standardise: bool = False,
        offline: bool = False,
    ) -> None:
        faults = {
            f"padding_samples={padding_samples} must be between 0 and 200": not (
                0 <= padding_samples <= SEEN_SAMPLES // 2
            ),
            f"window_s={window_s:g} must be between 8 and 120": not (
                _MIN_WINDOW_S <= window_s <= _MAX_WINDOW_S
            ),
            f"precision={precision} must be fp32 or bf16": precision not in _DTYPES,
            f"batch_size={batch_size} must be at least 1": batch_size < 1,
            f"device={device}: no CUDA device is here; use content.device=cpu": (
                device == "cuda" and not torch.cuda.is_available()
            ),
        }
        for fault, found in faults.items():
            if found:
                raise UserError(f"content.{fault}.")
        fairseq2_wav2vec2()  # before anything is fetched for it
        self._file = weights_file(weights, model, offline=offline)
        self._layer = layer
        self._projection = projection
        self._padding_samples = padding_samples
        self._window_frames = round(window_s * _RATE_HZ / FRAME_SAMPLES)
        self._dtype = _DTYPES[precision]
        self.device = device
        self._batch_size = batch_size if device == "cuda" else 1
        self._standardise = standardise
        self.grid = FrameGrid(
            step_s=FRAME_SAMPLES / _RATE_HZ,
            first_s=(SEEN_SAMPLES // 2 - padding_samples) / _RATE_HZ,
        )
        self.channels = self._network.channels

    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """audio [T] float32 -> [C, N] float32, on the CPU.

        N is that of the published encoders, the samples at 16 kHz // 320 with 40 of padding; at
        least 1 where there is a sample.

        Raises:
            ValueError: audio is not one-dimensional or not finite.
        """
        return self.encode_batch([audio], sample_rate_hz)[0]

    @torch.inference_mode()
    def encode_batch(self, audios: Sequence[Tensor], sample_rate_hz: int) -> list[Tensor]:
        """As `encode`; windows of like length go through the transformer together."""
        waves = [self._resampled(audio, sample_rate_hz) for audio in audios]
        convolved = [self._convolved(wave) for wave in waves]
        windows = [
            (piece, start, stop)
            for piece, rows in enumerate(convolved)
            for start, stop in cut_windows(rows.shape[0], self._window_frames)
        ]
        windows.sort(key=lambda window: window[2] - window[1])
        results = [torch.zeros(rows.shape[0], self.channels) for rows in convolved]
        for first in range(0, len(windows), self._batch_size):
            batch = windows[first : first + self._batch_size]
            out = self._network.transform([convolved[i][start:stop] for i, start, stop in batch])
            for (i, start, stop), rows in zip(batch, out, strict=True):
                share = window_share(start, stop, results[i].shape[0])
                results[i][start:stop] += rows.cpu() * share[:, None]
        return [
            self._finished(rows.T.contiguous(), wave)
            for rows, wave in zip(results, waves, strict=True)
        ]

    def identity(self) -> dict[str, str]:
        """The hash of the file of weights."""
        return {"weights_sha256": self._sha256}

    def __getstate__(self) -> dict[str, Any]:
        """The live network stays behind; another process loads its own."""
        return {key: value for key, value in self.__dict__.items() if key != "_network"}

    @cached_property
    def _network(self) -> HubertNetwork:
        published = read_state_dict(self._file)
        weights = convert_hubert(published, self._layer, self._projection, self._file)
        return HubertNetwork(weights, self.device, self._dtype)

    @cached_property
    def _sha256(self) -> str:
        return file_sha256(self._file)

    def _resampled(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """[T] at 16 kHz, checked."""
        audio = checked_audio(audio)
        if sample_rate_hz == _RATE_HZ:
            return audio
        return torch.from_numpy(soxr.resample(audio.numpy(), sample_rate_hz, _RATE_HZ))

    def _convolved(self, wave: Tensor) -> Tensor:
        """[N, C'] the features before the transformer."""
        if not wave.shape[0]:
            return torch.zeros(0, 1)
        padding = self._padding_samples
        more = max(0, SEEN_SAMPLES - 2 * padding - wave.shape[0])
        return self._network.convolve(torch.nn.functional.pad(wave, (padding, padding + more)))

    def _finished(self, features: Tensor, wave: Tensor) -> Tensor:
        """[C, N], standardised where that is wanted."""
        if not self._standardise or not features.shape[1]:
            return features
        wave = torch.nn.functional.pad(wave, (0, features.shape[1] * FRAME_SAMPLES))
        power = wave[: features.shape[1] * FRAME_SAMPLES].view(-1, FRAME_SAMPLES).square().mean(1)
        sounding = power >= power.max() * 10 ** (-_ACTIVE_DB / 10)
        return standardised(features, sounding, _SPREAD_FLOOR)


def cut_windows(frames: int, longest: int) -> list[tuple[int, int]]:
    """Equal windows [start, stop) of at most `longest` frames, 200 of which two of them share."""
    if frames <= longest:
        return [(0, frames)] if frames else []
    count = -(-(frames - _OVERLAP_FRAMES) // (longest - _OVERLAP_FRAMES))
    # Starts are equally spaced and so whole windows differ by no more than a frame.
    length = -(-(frames + (count - 1) * _OVERLAP_FRAMES) // count)
    starts = [(frames - length) * i // (count - 1) for i in range(count)]
    starts = [min(start, i * (length - _OVERLAP_FRAMES)) for i, start in enumerate(starts)]
    stops = [start + _OVERLAP_FRAMES for start in starts[1:]] + [frames]
    return list(zip(starts, stops, strict=True))


def window_share(start: int, stop: int, frames: int) -> Tensor:
    """[stop - start] what the window counts at each frame; over all windows it sums to 1.

    1 ───────────╮      ╭──────
                  ╲    ╱
                   ╲  ╱   two windows share 200 frames: for 64 of them only the left one
                    ╳     counts, over 72 they are faded, for 64 only the right one counts
                   ╱ ╲
    0 ────────────╯   ╰────────
    """
    share = torch.ones(stop - start)
    rise = (torch.arange(_OVERLAP_FRAMES) - _MARGIN_FRAMES + 0.5) / _FADE_FRAMES
    rise = rise.clamp(0, 1)
    if start > 0:
        share[:_OVERLAP_FRAMES] *= rise
    if stop < frames:
        share[-_OVERLAP_FRAMES:] *= 1 - rise
    return share
