"""What pitch trackers share: checked audio in, a contour on the mel's frame grid out.

Contours pass between these functions as float64 arrays in Hz with 0 where unvoiced.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.errors import UserError
from svc.features.pitch.base import Pitch


def check_range(f0_min_hz: float, f0_max_hz: float, highest_hz: float) -> None:
    """Refuse a search range that a tracker cannot cover.

    Args:
        f0_min_hz, f0_max_hz: lowest and highest F0 to look for.
        highest_hz: highest F0 that the tracker can find.

    Raises:
        UserError: not 0 < f0_min_hz < f0_max_hz <= highest_hz.
    """
    if not 0 < f0_min_hz < f0_max_hz <= highest_hz:
        raise UserError(
            f"pitch.f0_min_hz={f0_min_hz:g} and pitch.f0_max_hz={f0_max_hz:g} must satisfy "
            f"0 < min < max <= {highest_hz:g} (the highest F0 that this tracker can find)."
        )


def checked_samples(audio: Tensor, hop_samples: int) -> tuple[NDArray[np.float64], int]:
    """The samples under whole frames.

    Args:
        audio: [T], on any device.
        hop_samples: length of a frame.

    Returns:
        A new array [N * hop_samples], and N = T // hop_samples.

    Raises:
        ValueError: audio is not one-dimensional or not finite.
    """
    if audio.dim() != 1:
        raise ValueError(f"expected audio [T], got shape {tuple(audio.shape)}")
    frames = audio.shape[0] // hop_samples
    samples = audio[: frames * hop_samples].detach().cpu().double().numpy().copy()
    if not np.isfinite(samples).all():
        raise ValueError("audio holds NaN or infinite samples")
    return samples, frames


def on_frames(
    f0_hz: NDArray[np.floating], step_s: float, first_s: float, frames: int, hop_s: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A tracker's own frames brought to those of the mel, frame i at (i + 1/2) * hop_s.

    A mel frame is voiced where the nearest raw frame is. Its F0 lies on the straight line over log
    frequency between the raw frames on either side where both are voiced, and is the nearest raw
    frame's otherwise. Before the first and after the last raw frame those two are held.

    Args:
        f0_hz: [N'] in Hz, 0 where unvoiced; N' may be 0, then nothing is voiced.
        step_s: distance of the raw frames.
        first_s: centre of raw frame 0.
        frames: number of mel frames, N.
        hop_s: their distance.

    Returns:
        F0 [N], 0 where unvoiced, and voicing [N].
    """
    raw = np.asarray(f0_hz, dtype=np.float64)
    if raw.shape[0] == 0:
        return np.zeros(frames), np.zeros(frames, dtype=np.bool_)
    last = raw.shape[0] - 1
    position = (((np.arange(frames) + 0.5) * hop_s - first_s) / step_s).clip(0, last)
    # A millionth of a frame is nothing, and rounding to it makes equal grids coincide exactly.
    position = np.rint(position * 1e6) * 1e-6
    nearest = np.rint(position).astype(np.int64)
    left = np.floor(position).astype(np.int64)
    right = np.minimum(left + 1, last)
    weight = position - left
    both = (raw[left] > 0) & (raw[right] > 0)
    log_f0 = np.log2(np.where(raw > 0, raw, 1.0))
    between = np.exp2(log_f0[left] + (log_f0[right] - log_f0[left]) * weight)
    voiced = raw[nearest] > 0
    return np.where(voiced, np.where(both, between, raw[nearest]), 0.0), voiced


def interpolate_unvoiced(
    f0_hz: NDArray[np.float64], voiced: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """F0 that runs through unvoiced frames in a straight line over log frequency, as the ear
    measures intervals, and is held before the first and after the last voiced frame.

    Args:
        f0_hz: [N], positive where voiced.
        voiced: [N].

    Returns:
        [N], zeros if nothing is voiced.
    """
    if not voiced.any():
        return np.zeros_like(f0_hz)
    known = np.flatnonzero(voiced)
    log_f0 = np.interp(np.arange(f0_hz.shape[0]), known, np.log2(f0_hz[known]))
    return np.where(voiced, f0_hz, np.exp2(log_f0))


def pitch_of(f0_hz: NDArray[np.floating], f0_min_hz: float, f0_max_hz: float) -> Pitch:
    """The `Pitch` of a contour [N] on the mel's frames, 0 where unvoiced.

    Trackers refine a candidate after they searched the range, which may carry it out of the range
    by a hair: voiced F0 is clipped to it.
    """
    raw = np.asarray(f0_hz, dtype=np.float64)
    voiced = raw > 0
    in_range = np.where(voiced, raw.clip(f0_min_hz, f0_max_hz), 0.0)
    through = interpolate_unvoiced(in_range, voiced)
    return Pitch(
        f0_hz=torch.from_numpy(through).float(),
        voiced=torch.from_numpy(voiced),
    )
