"""From an encoder's own frame grid to the mel's, by linear interpolation.

Content is stored as its encoder made it (a 50 Hz encoder stays at 50 frames per second, which is
smaller than the mel's 86) and brought to the mel's grid when it is read. Mel frame j is centred at
(j + 1/2) * hop / sample rate seconds; `FrameGrid` says where the encoder's frames are centred.
Before the first and after the last of those the nearest frame is held.

Positions depend on the absolute frame number alone, so a crop holds exactly the numbers that the
same span of the whole recording holds.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.features.content.base import FrameGrid


def native_span(
    grid: FrameGrid, spec: AudioSpec, first_frame: int, frames: int, native_frames: int
) -> tuple[int, int]:
    """The frames [start, stop) of the encoder's grid that a crop of the mel's grid depends on.

    Args:
        grid: where the encoder's frames lie.
        spec: the mel's framing.
        first_frame: mel frame at which the crop begins.
        frames: mel frames in the crop, at least 1.
        native_frames: frames that the encoder gave for the whole recording, at least 1.
    """
    left, right, _ = neighbours(grid, spec, first_frame, frames, native_frames)
    return int(left[0]), int(right[-1]) + 1


def crop_to_mel_grid(
    rows: NDArray[np.floating],
    grid: FrameGrid,
    spec: AudioSpec,
    frames: int,
    first_frame: int = 0,
    speed: float = 1.0,
) -> NDArray[np.float32]:
    """A crop of stored features on the mel's grid; only the frames it needs are read.

    Args:
        rows: [N', C] features of the whole recording on the encoder's grid, of any float type; a
            memory map is read from the first to the last row needed, in one piece.
        grid, spec: where the frames of the encoder and of the mel lie.
        frames: mel frames in the crop.
        first_frame: mel frame at which the crop begins.
        speed: mel frames of the recording that pass in one frame of the crop; sample n of such a
            crop's audio is the recording's at first_frame * hop + n * speed.

    Returns:
        [frames, C] float32, a new array.
    """
    left, right, weight = neighbours(grid, spec, first_frame, frames, rows.shape[0], speed)
    if frames == 0:
        return np.empty((0, rows.shape[1]), dtype=np.float32)
    start = left[0]
    # asarray first: a slice of a memmap stays a memmap, whose every operation costs microseconds.
    span = np.asarray(rows[start : right[-1] + 1]).astype(np.float32)
    below: NDArray[np.float32] = span[left - start]
    if not weight.any():  # the grids coincide
        return below
    difference = span[right - start]
    difference -= below
    difference *= weight[:, None]
    below += difference
    return below


def to_mel_grid(
    features: Tensor, grid: FrameGrid, spec: AudioSpec, frames: int, first_frame: int = 0
) -> Tensor:
    """`crop_to_mel_grid` for tensors: features [C, N'] -> [C, frames] float32, same device."""
    left, right, weight = (
        torch.from_numpy(values).to(features.device)
        for values in neighbours(grid, spec, first_frame, frames, features.shape[1])
    )
    features = features.float()
    below = features[:, left]
    # Not torch.lerp, which rounds otherwise: both readers give the same bits.
    return below + (features[:, right] - below) * weight


def neighbours(
    grid: FrameGrid,
    spec: AudioSpec,
    first_frame: int,
    frames: int,
    native_frames: int,
    speed: float = 1.0,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The two frames of the encoder's grid that each frame of a crop lies between.

    Args:
        grid, spec: where the frames of the encoder and of the mel lie.
        first_frame: mel frame at which the crop begins.
        frames: mel frames in the crop.
        native_frames: frames that the encoder gave for the whole recording.
        speed: as in `crop_to_mel_grid`.

    Returns:
        Left and right neighbour and the right one's weight, from 0 to below 1: [frames] each.

    Raises:
        ValueError: native_frames is below 1.
    """
    if native_frames < 1:
        raise ValueError("features without any frame cannot be interpolated")
    centres = first_frame + (np.arange(frames) + 0.5) * speed
    centres *= spec.hop_samples / (spec.sample_rate_hz * grid.step_s)
    centres -= grid.first_s / grid.step_s
    # A millionth of a frame is nothing, and rounding to it makes equal grids coincide exactly.
    position = np.minimum(np.maximum(np.rint(centres * 1e6) * 1e-6, 0.0), native_frames - 1.0)
    # The grid of a millionth is itself not exact in binary: 3 * 1e6 * 1e-6 may fall below 3.
    left = (position + 1e-9).astype(np.int64)
    weight = np.maximum(position - left, 0.0).astype(np.float32)
    return left, np.minimum(left + 1, native_frames - 1), weight
