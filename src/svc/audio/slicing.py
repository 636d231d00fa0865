"""Cutting recordings into slices at their quietest points, always on the hop grid."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from svc.audio.levels import Levels, decibel_of, frame_levels_db, power_of, silence_threshold_db
from svc.audio.spec import AudioSpec
from svc.errors import UserError

MIN_RECORDING_S = 0.5
"""Shorter recordings give no slice: there is no phrase in them to learn from."""

_CUT_SPAN_S = 0.1
_CUT_PENALTY_DB = 10.0
"""What one more cut must gain in quietness to be worth it."""


@dataclass(frozen=True)
class Slice:
    """A stretch of a recording; both ends are multiples of the hop."""

    start_sample: int
    stop_sample: int
    """First sample that no longer belongs to the slice."""


def slice_at_silences(
    audio: Tensor,
    spec: AudioSpec,
    *,
    min_s: float = 3.0,
    max_s: float = 12.0,
    silence_db: float = -50.0,
    min_silence_s: float = 0.5,
    margin_s: float = 0.1,
) -> list[Slice]:
    """Cut a recording into slices of `min_s` to `max_s`, leaving out long silences.

    What is silent is judged against the recording's own loudest stretch, so that a quiet singer is
    as safe as a loud one. Silences of at least `min_silence_s` are left out but for `margin_s` at
    either end. A phrase that is then shorter than `min_s` is joined with a neighbour or takes some
    of the silence around it; what is longer than `max_s` is cut at its quietest points.

    Every frame that is not silent lies in exactly one slice. Only left out are long silences and
    the remainder of less than one hop at the end. A recording of 0.5 s to `min_s` gives one slice,
    whole: single words and notes are worth keeping, and crops are padded where they are too short.

    Args:
        audio: [T] at spec.sample_rate_hz.
        spec: gives the frame grid.
        min_s: shortest slice, to within a frame.
        max_s: longest slice, at least twice `min_s`.
        silence_db: frames this far below the recording's level are silent (negative). Where the
            room's noise is louder, up to 10 dB more is allowed.
        min_silence_s: shorter silences stay inside slices.
        margin_s: how much of a long silence stays beside the phrases.

    Returns:
        Slices in order, without overlap. Empty for a recording that is all silent or shorter than
        0.5 s.

    Raises:
        UserError: the limits contradict each other.
        ValueError: `audio` is not [T].
    """
    return slice_levels(
        frame_levels_db(audio, spec),
        spec,
        min_s=min_s,
        max_s=max_s,
        silence_db=silence_db,
        min_silence_s=min_silence_s,
        margin_s=margin_s,
    )


def slice_levels(
    levels_db: Levels,
    spec: AudioSpec,
    *,
    min_s: float = 3.0,
    max_s: float = 12.0,
    silence_db: float = -50.0,
    min_silence_s: float = 0.5,
    margin_s: float = 0.1,
) -> list[Slice]:
    """`slice_at_silences` from the levels alone.

    A recording of many hours need not be held in memory: its levels, taken block by block (blocks
    of whole frames), are 2.5 MB an hour.

    Args:
        levels_db: [N] from `frame_levels_db`, of the whole recording; the rest as there.
    """
    if not 0 < 2 * min_s <= max_s:
        raise UserError(
            f"min_s={min_s:g} and max_s={max_s:g} of the slices: max_s must be at least twice "
            f"min_s, so that anything too long can be cut, and min_s must be positive."
        )
    if silence_db >= 0 or margin_s < 0 or min_silence_s < 2 * margin_s:
        raise UserError(
            f"silence_db={silence_db:g} must be negative, margin_s={margin_s:g} not negative, and "
            f"min_silence_s={min_silence_s:g} at least twice margin_s."
        )
    frames = len(levels_db)
    if frames < MIN_RECORDING_S * spec.frame_rate_hz:
        return []
    silent = levels_db < silence_threshold_db(levels_db, spec, silence_db)
    min_silence = max(1, round(min_silence_s * spec.frame_rate_hz))
    margin = round(margin_s * spec.frame_rate_hz)
    phrases = _phrases(silent, min_silence, margin)
    min_frames, max_frames = _frame_limits(spec, min_s, max_s)
    slices = []
    for start, stop in _lengthen(phrases, frames, min_frames, max_frames):
        cuts = find_cuts(levels_db[start:stop], spec, max_s, min_s)
        bounds = [start, *(start + cut for cut in cuts), stop]
        slices += [
            Slice(first * spec.hop_samples, last * spec.hop_samples)
            for first, last in pairwise(bounds)
        ]
    return slices


def find_cuts(
    levels_db: Levels, spec: AudioSpec, max_s: float, min_s: float | None = None
) -> list[int]:
    """The quietest places to cut, so that no segment is longer than `max_s`.

    Minimises the sum over the cuts of the level there (in dB above the quietest place, averaged
    over 0.1 s) plus 10 dB for each cut, by dynamic programming: best[j], the least cost of a
    segmentation that ends at frame j, is cost[j] + min of best[j - max .. j - min]. It is worked
    out `min` frames at a time, for which all of that window is known.

    Args:
        levels_db: [N] from `frame_levels_db`.
        max_s: longest segment, at least two frames.
        min_s: shortest segment where anything is cut, at most half of `max_s`; a quarter of it by
            default.

    Returns:
        Frame indices in (0, N), ascending: a cut at i lies between frames i - 1 and i. Empty where
        the whole is no longer than `max_s`.

    Raises:
        ValueError: `max_s` is shorter than two frames or `min_s` longer than half of it.
    """
    min_s = max_s / 4 if min_s is None else min_s
    min_frames, max_frames = _frame_limits(spec, min_s, max_s)
    if max_frames < 2 or 2 * min_s > max_s:
        raise ValueError(f"max_s={max_s} must be two frames or more, min_s={min_s} at most half.")
    frames = len(levels_db)
    if frames <= max_frames:
        return []
    cost = _cut_costs_db(levels_db, spec)
    best = np.full(frames + 1, np.inf)
    best[0] = 0.0
    previous = np.zeros(frames + 1, dtype=np.int64)
    width = max_frames - min_frames + 1
    for start in range(min_frames, frames + 1, min_frames):
        stop = min(start + min_frames, frames + 1)
        first = start - max_frames
        known = best[max(first, 0) : stop - min_frames]
        windows = sliding_window_view(
            np.pad(known, (max(-first, 0), 0), constant_values=np.inf), width
        )
        choice = windows.argmin(axis=1)
        rows = np.arange(stop - start)
        best[start:stop] = windows[rows, choice] + cost[start:stop]
        previous[start:stop] = first + rows + choice
    cuts = []
    cut = int(previous[frames])
    while cut > 0:
        cuts.append(cut)
        cut = int(previous[cut])
    return cuts[::-1]


def _cut_costs_db(levels_db: Levels, spec: AudioSpec) -> Levels:
    """[N + 1]: cost of a cut before each frame; nothing at the end, where no cut is made."""
    half = max(1, round(_CUT_SPAN_S / 2 * spec.frame_rate_hz))
    power = power_of(levels_db)
    # An even number of frames, half of them on either side of the cut.
    around = sliding_window_view(np.pad(power, half, mode="edge"), 2 * half).mean(axis=1)
    cost = decibel_of(around)
    cost += _CUT_PENALTY_DB - cost.min()
    cost[-1] = 0.0
    return cost


def _phrases(silent: NDArray[np.bool_], min_silence: int, margin: int) -> list[tuple[int, int]]:
    """Stretches [start, stop) between long silences, with margins, in order."""
    loud = np.flatnonzero(~silent)
    if len(loud) == 0:
        return []
    # A gap of g silent frames between loud ones shows as a step of g + 1.
    breaks = np.flatnonzero(np.diff(loud) > min_silence)
    starts = loud[np.concatenate([[0], breaks + 1])]
    stops = loud[np.concatenate([breaks, [len(loud) - 1]])] + 1
    # Margins cannot meet: a long silence is at least two of them.
    starts = np.maximum(starts - margin, 0)
    stops = np.minimum(stops + margin, len(silent))
    return [(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]


def _lengthen(
    phrases: list[tuple[int, int]], frames: int, min_frames: int, max_frames: int
) -> list[tuple[int, int]]:
    """Join or widen phrases that are shorter than `min_frames`.

    Whichever takes less silence along: joined with the nearer neighbour if the two fit into
    `max_frames`, else widened into the silence around it. Where neither is possible they are joined
    all the same, and `find_cuts` finds a better place between them.
    """
    phrases = list(phrases)
    at = 0
    while at < len(phrases):
        start, stop = phrases[at]
        missing = min_frames - (stop - start)
        if missing <= 0:
            at += 1
            continue
        before = phrases[at - 1][1] if at else 0
        after = phrases[at + 1][0] if at + 1 < len(phrases) else frames
        neighbours = [(start - before, at - 1)] if at else []
        neighbours += [(after - stop, at)] if at + 1 < len(phrases) else []
        gap, left = min(neighbours, default=(frames, at))
        fits = bool(neighbours) and phrases[left + 1][1] - phrases[left][0] <= max_frames
        widens = (start - before) + (after - stop) >= missing
        if (neighbours and not widens) or (fits and gap <= missing):
            phrases[left : left + 2] = [(phrases[left][0], phrases[left + 1][1])]
            at = left
        elif widens:
            stop = min(after, max(before, start - missing // 2) + min_frames)
            phrases[at] = (max(before, stop - min_frames), stop)
        else:
            # The only phrase of a recording that is itself shorter than a slice.
            phrases[at] = (0, frames)
            at += 1
    return phrases


def _frame_limits(spec: AudioSpec, min_s: float, max_s: float) -> tuple[int, int]:
    max_frames = int(max_s * spec.frame_rate_hz)
    # Rounding up must not make two of the shortest longer than one of the longest.
    min_frames = min(math.ceil(min_s * spec.frame_rate_hz), max_frames // 2)
    return max(1, min_frames), max_frames
