"""The likeliest path through pitch bins that moves little from frame to frame."""

import numpy as np
from numpy.typing import NDArray


def likeliest_path(
    scores: NDArray[np.floating], step_scores: NDArray[np.floating], jump_score: float
) -> NDArray[np.int64]:
    """The path with the highest sum of scores, by the Viterbi algorithm.

    Steps within a band are scored by their length; every longer one scores the same, so that a
    frame costs the band's width per bin and not the number of bins.

    Args:
        scores: [N, S] of being in a bin, such as log probabilities; -inf forbids the bin.
        step_scores: [W + 1] of moving by 0 to W bins either way.
        jump_score: of moving to any bin, at most the least of `step_scores`.

    Returns:
        [N] bins. Of equally good paths, the one that comes from the lowest bin.

    Raises:
        ValueError: `jump_score` is above a step's.
    """
    if jump_score > step_scores.min():
        raise ValueError(f"jump_score {jump_score} is above the least step's {step_scores.min()}")
    frames, bins = scores.shape
    if frames == 0:
        return np.zeros(0, dtype=np.int64)
    reach = step_scores.shape[0] - 1
    band = np.concatenate([step_scores[:0:-1], step_scores]).astype(np.float64)
    padded = np.full(bins + 2 * reach, -np.inf)
    best = padded[reach : reach + bins]
    best[:] = scores[0]
    reachable = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    every = np.arange(bins)
    origins = np.zeros((frames, bins), dtype=np.int64)
    for frame in range(1, frames):
        candidates = reachable + band
        nearest = candidates.argmax(axis=1)
        arriving = candidates[every, nearest]
        top = int(best.argmax())
        jumping = best[top] + jump_score
        jumps = jumping > arriving
        origins[frame] = np.where(jumps, top, every + nearest - reach)
        best[:] = np.where(jumps, jumping, arriving) + scores[frame]
    path = np.zeros(frames, dtype=np.int64)
    path[-1] = best.argmax()
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = origins[frame, path[frame]]
    return path
