"""Content from the encoder of a Whisper model."""

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.errors import UserError
from svc.features.content.base import ContentEncoder, FrameGrid, checked_audio
from svc.features.content.standardisation import standardised
from svc.hashing import file_sha256

_RATE_HZ = 16_000
_FRAME_SAMPLES = 320
"""Two mel hops of 160 samples: the encoder's second convolution has stride 2."""
_MAX_WINDOW_S = 30.0
"""As many positions as the encoder knows."""
_SPREAD_FLOOR = 0.25
"""Of channels that hardly vary; the deviation over a phrase is 0.4 to 0.8 with tiny.en."""
_ACTIVE_DB = 40.0
"""Frames within this distance of the loudest one count as sounding."""
_PROBES = 4
"""Pieces of noise over which the trace of the position is averaged."""


class WhisperContent(ContentEncoder):
    """The last layer of a Whisper encoder: 50 frames per second of what is said or sung.

    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), section
    2.2. Runs through CTranslate2, as faster-whisper does.

    Whisper expects 30 s and marks every frame with its place in them, strongly: with tiny.en, the
    same speech 10 s further on correlates by 0.4 with itself. Three things keep a sound the same
    wherever it stands. Audio is encoded in windows of `window_s` without padding them (which also
    saves most of the time), so that there are few places. The trace that the place leaves in white
    noise is subtracted. And windows overlap by half and are faded into each other, so that most
    frames are the mean of two places and a long recording has no seams.

    Frame i is centred at 0.02 * i s: both convolutions and the spectrogram are centred.

    Args:
        model: folder of a model in CTranslate2 form (`model.bin`, `config.json`), or a name that
            faster-whisper knows ("tiny.en", "small", ...), which is fetched if need be.
        device: "cpu" or "cuda".
        compute_type: arithmetic of CTranslate2, such as "int8", "float32" or "float16". On a CPU
            int8 takes 0.6 of the time of float32, and the features correlate by 0.998.
        window_s: seconds per window, 1 to 30.
        threads: CPU threads of one encoder. Preparation runs one encoder per core.
        standardise: give every channel mean 0 and about variance 1 over the piece (see
            `standardised`). Between singers the means of tiny.en differ by as much as its frames do
            among themselves, and a model of one voice has seen only that voice's.

    Raises:
        UserError: faster-whisper is not installed, the model is not there or not one of Whisper,
            or a value is out of range.
    """

    def __init__(
        self,
        model: str = "tiny.en",
        device: Literal["cpu", "cuda"] = "cpu",
        compute_type: str = "int8",
        window_s: float = 4.0,
        threads: int = 1,
        standardise: bool = True,
    ) -> None:
        if not 1 <= window_s <= _MAX_WINDOW_S:
            raise UserError(f"content.window_s={window_s:g} must be between 1 and 30.")
        self._folder = _model_folder(str(model))
        self.device = device
        self._options = {
            "device": device,
            "compute_type": compute_type,
            "intra_threads": threads,
        }
        self._standardise = standardise
        self._window_frames = 2 * round(window_s * _RATE_HZ / _FRAME_SAMPLES / 2)
        self.grid = FrameGrid(step_s=_FRAME_SAMPLES / _RATE_HZ, first_s=0.0)
        self.channels = self._position_trace.shape[1]

    @torch.no_grad()
    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """audio [T] float32 -> [C, N] float32, on the CPU; N = the seconds * 50, rounded up.

        Raises:
            ValueError: audio is not one-dimensional or not finite.
        """
        samples = soxr.resample(checked_audio(audio).numpy(), sample_rate_hz, _RATE_HZ)
        frames = -(-samples.shape[0] // _FRAME_SAMPLES)
        samples = np.pad(samples, (0, frames * _FRAME_SAMPLES - samples.shape[0]))
        rows = np.zeros((frames, self.channels), dtype=np.float32)
        half = self._window_frames // 2
        fade = ((np.arange(half, dtype=np.float32) + 0.5) / half)[:, None]
        # A window begins every half window, until one reaches the end.
        for start in range(0, max(frames - half, 1 if frames else 0), half):
            stop = min(start + self._window_frames, frames)
            window = self._encode_window(samples[start * _FRAME_SAMPLES : stop * _FRAME_SAMPLES])
            if start:
                window[:half] *= fade
            if stop < frames:
                window[half:] *= 1 - fade
            rows[start:stop] += window
        features = torch.from_numpy(rows.T.copy())
        if not self._standardise or not frames:
            return features
        return standardised(features, _sounding(samples), _SPREAD_FLOOR)

    def identity(self) -> dict[str, str]:
        """The hash of the weights."""
        return {"weights_sha256": file_sha256(self._folder / "model.bin")}

    def __getstate__(self) -> dict[str, Any]:
        """The live model stays behind; another process loads its own."""
        live = {"_model", "_spectrogram"}
        return {key: value for key, value in self.__dict__.items() if key not in live}

    @cached_property
    def _model(self) -> Any:
        ctranslate2, _ = _faster_whisper()
        try:
            return ctranslate2.models.Whisper(str(self._folder), **self._options)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"content.model={self._folder} cannot be loaded with device="
                f"{self._options['device']} and compute_type={self._options['compute_type']}: "
                f"{error}"
            ) from error

    @cached_property
    def _spectrogram(self) -> Any:
        _, faster_whisper = _faster_whisper()
        return faster_whisper.feature_extractor.FeatureExtractor(feature_size=self._model.n_mels)

    @cached_property
    def _position_trace(self) -> NDArray[np.float32]:
        """[window frames, C]: what the place in the window adds, with mean 0 over the window."""
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((_PROBES, self._window_frames * _FRAME_SAMPLES)) * 0.02
        mean = np.mean([self._run(probe.astype(np.float32)) for probe in noise], axis=0)
        trace: NDArray[np.float32] = mean - mean.mean(axis=0)
        return trace

    def _encode_window(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """[frames * 320], at most a window -> [frames, C]."""
        rows = self._run(samples)
        rows -= self._position_trace[: rows.shape[0]]
        return rows

    def _run(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        ctranslate2, _ = _faster_whisper()
        frames = samples.shape[0] // _FRAME_SAMPLES
        # The spectrogram reflects 200 samples at the ends and needs more than those.
        samples = np.pad(samples, (0, max(0, 2 * _FRAME_SAMPLES - samples.shape[0])))
        mel = self._spectrogram(samples)[None, :, : 2 * frames].astype(np.float32)
        storage = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel))
        rows: NDArray[np.float32] = np.array(self._model.encode(storage, to_cpu=True))[0]
        return rows.astype(np.float32)


def _sounding(samples: NDArray[np.float32]) -> Tensor:
    """[frames * 320] at 16 kHz -> [frames] bool, at least one of them true."""
    power = torch.from_numpy(samples).view(-1, _FRAME_SAMPLES).square().mean(dim=1)
    return power >= power.max() * 10 ** (-_ACTIVE_DB / 10)


def _faster_whisper() -> tuple[Any, Any]:
    """The modules ctranslate2 and faster_whisper."""
    try:
        import ctranslate2
        import faster_whisper
    except ImportError as error:
        raise UserError(
            "content=whisper needs faster-whisper: pip install faster-whisper. "
            "content=mfcc works without."
        ) from error
    return ctranslate2, faster_whisper


def _model_folder(model: str) -> Path:
    """The folder of the model, which is fetched when `model` is a name."""
    advice = (
        "Give content.model the folder of a Whisper model in CTranslate2 form (it holds model.bin "
        "and config.json), or use content=mfcc, which needs no weights."
    )
    folder = Path(model).expanduser()
    if folder.is_dir():
        missing = [name for name in ("model.bin", "config.json") if not (folder / name).is_file()]
        if missing:
            raise UserError(
                f"content.model={model}: there is no {' and no '.join(missing)} in it. {advice}"
            )
        return folder.resolve()
    if folder.is_absolute() or model.startswith((".", "~")) or model.count(os.sep) > 1:
        raise UserError(f"content.model={model}: there is no such folder. {advice}")
    _, faster_whisper = _faster_whisper()
    try:
        return Path(faster_whisper.utils.download_model(model))
    except (OSError, ValueError) as error:  # no network, no such repository, unknown name
        raise UserError(
            f"content.model={model} is neither a folder nor a model that could be fetched "
            f"({type(error).__name__}: {error}). {advice}"
        ) from error
