"""How loud a recording is, frame by frame, and below which level it is silent."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from svc.audio.spec import AudioSpec

Levels = NDArray[np.float64]

ABSOLUTE_SILENCE_DB = -70.0
"""Frames below this RMS, relative to full scale, are silent however quiet the recording is."""
_FLOOR_DB = -120.0
_LEVEL_SPAN_S = 0.4
"""The level of a recording is its loudest stretch of this length, so that no click defines it."""
_NOISE_HEADROOM_DB = 6.0
_NOISE_ALLOWANCE_DB = 10.0


def frame_levels_db(audio: Tensor, spec: AudioSpec) -> Levels:
    """RMS of every whole frame in dB relative to full scale, floored at -120 dB.

    Args:
        audio: [T].

    Returns:
        [N] with N = T // spec.hop_samples.
    """
    if audio.dim() != 1:
        raise ValueError(f"audio must be [T] and is {tuple(audio.shape)}.")
    samples = audio.detach().float().cpu().numpy()
    frames = spec.frames(len(samples))
    grid = samples[: frames * spec.hop_samples].reshape(frames, spec.hop_samples)
    power = np.einsum("nt,nt->n", grid, grid).astype(np.float64) / spec.hop_samples
    return decibel_of(power)


def silence_threshold_db(levels_db: Levels, spec: AudioSpec, silence_db: float = -50.0) -> float:
    """RMS in dB below which frames of this recording count as silent.

    `silence_db` below the loudest 0.4 s; or 6 dB above the noise of the room (the fifth percentile)
    where that is higher, but by no more than 10 dB, because a pianissimo may be quieter than that;
    and never under -70 dB.

    Args:
        levels_db: [N] from `frame_levels_db`.
    """
    if len(levels_db) == 0:
        return ABSOLUTE_SILENCE_DB
    span = max(1, round(_LEVEL_SPAN_S * spec.frame_rate_hz))
    level_db = float(decibel_of(_moving_mean(power_of(levels_db), span)).max())
    noise_db = float(np.percentile(levels_db, 5)) + _NOISE_HEADROOM_DB
    wanted_db = level_db + silence_db
    return max(min(max(wanted_db, noise_db), wanted_db + _NOISE_ALLOWANCE_DB), ABSOLUTE_SILENCE_DB)


def power_of(levels_db: Levels) -> Levels:
    """[N] dB -> [N], 1 at full scale."""
    return np.asarray(10.0 ** (levels_db / 10), dtype=np.float64)


def decibel_of(power: Levels) -> Levels:
    """The inverse of `power_of`, floored at -120 dB."""
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 10))), dtype=np.float64)


def _moving_mean(values: Levels, span: int) -> Levels:
    """Mean over every `span` consecutive values; over all of them where there are fewer."""
    span = min(span, len(values))
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((total[span:] - total[:-span]) / span, dtype=np.float64)
