"""Mending of contours: octave jumps and dropouts.

Contours here are log2 of F0 in Hz, [N] float64 with NaN where unvoiced: octaves are whole numbers.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_BREAK_OCTAVES = 5 / 12
"""A step between two frames that no voice takes: a run of one octave ends there."""
_NEAR_OCTAVES = 2 / 12
_SEMITONE = 1 / 12


def runs(where: Bools) -> list[tuple[int, int]]:
    """[start, stop) of every stretch of consecutive True in where [N]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def unfold_octaves(contour: Floats, longest_frames: int) -> Floats:
    """Short runs that lie octaves away from both of their neighbours, moved to them.

    A run is moved if it lasts at most `longest_frames`, follows and is followed by longer runs
    without more than `longest_frames` of pause, and comes to lie within 2 semitones of both.

    Returns:
        [N], a new array.
    """
    mended = contour.copy()
    pieces = _smooth_runs(contour)
    for before, (start, stop), after in zip(pieces, pieces[1:], pieces[2:], strict=False):
        length = stop - start
        paused = max(start - before[1], after[0] - stop) > longest_frames
        outweighed = min(before[1] - before[0], after[1] - after[0]) >= length
        if length > longest_frames or paused or not outweighed:
            continue
        left = mended[before[1] - 1] - contour[start]
        right = contour[after[0]] - contour[stop - 1]
        octaves = np.rint(left)
        if octaves and max(abs(left - octaves), abs(right - octaves)) <= _NEAR_OCTAVES:
            mended[start:stop] += octaves
    return mended


def fill_dropouts(contour: Floats, longest_frames: int) -> Floats:
    """Gaps of at most `longest_frames` within a note, bridged by straight lines.

    Returns:
        [N], a new array.
    """
    mended = contour.copy()
    for start, stop in runs(np.isnan(contour)):
        inside = start > 0 and stop < len(contour)
        if not inside or stop - start > longest_frames:
            continue
        left, right = contour[start - 1], contour[stop]
        if abs(right - left) <= _SEMITONE:
            mended[start:stop] = np.linspace(left, right, stop - start + 2)[1:-1]
    return mended


def continued(contour: Floats, sure: Bools) -> Bools:
    """Frames that hang together with sure ones.

    Args:
        contour: [N], NaN where nothing can be voiced.
        sure: [N], frames that are voiced in any case.

    Returns:
        [N]: the sure frames, and those joined to one by steps of less than a semitone.
    """
    joined = sure.copy()
    steps = np.abs(np.diff(contour, prepend=np.nan))
    numbers = np.cumsum(~(steps < _SEMITONE))
    joined |= np.isfinite(contour) & np.isin(numbers, numbers[sure & np.isfinite(contour)])
    return joined


def _smooth_runs(contour: Floats) -> list[tuple[int, int]]:
    """[start, stop) of the voiced stretches without a leap, in order of time."""
    steps = np.abs(np.diff(contour))
    pieces = []
    for start, stop in runs(np.isfinite(contour)):
        leaps = start + 1 + np.flatnonzero(steps[start : stop - 1] > _BREAK_OCTAVES)
        bounds = [start, *leaps.tolist(), stop]
        pieces += list(pairwise(bounds))
    return pieces
