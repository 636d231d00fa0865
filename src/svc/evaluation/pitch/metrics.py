"""How well a pitch contour follows the truth, and how far two contours agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from svc.features.pitch.base import Pitch

TOLERANCE_CENTS = 50.0
"""Half a semitone: a pitch closer to the truth than this counts as correct."""


@dataclass(frozen=True)
class PitchScore:
    """A contour against the truth; a share is NaN where there is nothing to take a share of.

    Raw pitch and chroma accuracy, voicing recall, voicing false alarm and overall accuracy are
    those of Poliner et al., "Melody transcription from music audio: approaches and evaluation",
    IEEE TASLP 15(4), 2007, as mir_eval computes them (Raffel et al., ISMIR 2014).
    """

    raw_pitch_accuracy: float
    """Share of the truly voiced frames whose F0 is within 50 cents, whatever the tracker says of
    their voicing: what it interpolates through frames that it calls unvoiced counts."""
    raw_chroma_accuracy: float
    """The same with octaves folded into each other."""
    voicing_recall: float
    """Share of the truly voiced frames that are called voiced."""
    voicing_false_alarm: float
    """Share of the truly unvoiced frames that are called voiced."""
    overall_accuracy: float
    """Share of all frames whose voicing is right and, where voiced, whose F0 is within 50 cents."""
    octave_error_share: float
    """Of the frames that both call voiced, the share that is one or more octaves off, to within
    50 cents."""
    median_abs_cents: float
    """Median distance over the frames that both call voiced."""
    frames: int
    voiced_frames: int
    """Truly voiced."""


def score_pitch(truth: Pitch, estimate: Pitch) -> PitchScore:
    """Score a contour frame by frame.

    Args:
        truth: [N] contour, F0 > 0 where voiced.
        estimate: [N] contour, F0 > 0 where voiced.

    Raises:
        ValueError: the lengths differ, or a voiced frame has no F0.
    """
    cents = interval_cents(truth, estimate)
    close, close_in_chroma = _within(cents), _within(_folded(cents))
    both = truth.voiced & estimate.voiced
    right_pitch = both & close
    right_silence = ~truth.voiced & ~estimate.voiced
    distance = cents[both].abs()
    return PitchScore(
        raw_pitch_accuracy=share(close, truth.voiced),
        raw_chroma_accuracy=share(close_in_chroma, truth.voiced),
        voicing_recall=share(estimate.voiced, truth.voiced),
        voicing_false_alarm=share(estimate.voiced, ~truth.voiced),
        overall_accuracy=share(right_pitch | right_silence, torch.ones_like(both)),
        octave_error_share=share(is_octave_error(cents), both),
        # quantile averages the middle pair of an even count; Tensor.median takes the lower one.
        median_abs_cents=float(torch.quantile(distance, 0.5)) if len(distance) else math.nan,
        frames=len(cents),
        voiced_frames=int(truth.voiced.sum()),
    )


def joined(contours: Sequence[Pitch]) -> Pitch:
    """Contours one after the other, so that a score counts every frame alike."""
    return Pitch(
        f0_hz=torch.cat([contour.f0_hz for contour in contours]),
        voiced=torch.cat([contour.voiced for contour in contours]),
    )


def interval_cents(reference: Pitch, other: Pitch) -> Tensor:
    """[N] float64: how far `other` lies above `reference`; infinite where either has no F0.

    Raises:
        ValueError: the lengths differ, or a voiced frame has no F0.
    """
    shapes = {t.shape for c in (reference, other) for t in (c.f0_hz, c.voiced)}
    if len(shapes) != 1:
        raise ValueError(f"contours must have the same length, got {sorted(map(tuple, shapes))}")
    for contour in (reference, other):
        if bool((contour.f0_hz[contour.voiced] <= 0).any()):
            raise ValueError("F0 must be positive in every voiced frame")
    known = (reference.f0_hz > 0) & (other.f0_hz > 0)
    cents = torch.full(known.shape, math.inf, dtype=torch.float64)
    ratio = other.f0_hz[known].double() / reference.f0_hz[known].double()
    cents[known] = 1200 * torch.log2(ratio)
    return cents


def is_octave_error(cents: Tensor) -> Tensor:
    """[N] bool: whole octaves away from each other, to within the tolerance, but not equal."""
    return _within(_folded(cents)) & ~_within(cents)


def is_close(cents: Tensor) -> Tensor:
    """[N] bool: less than the tolerance from each other."""
    return _within(cents)


def share(what: Tensor, among: Tensor) -> float:
    """Share of the frames `among` [N] bool in which `what` [N] bool holds; NaN where none is."""
    count = int(among.sum())
    return int((what & among).sum()) / count if count else math.nan


def _within(cents: Tensor) -> Tensor:
    return cents.abs() < TOLERANCE_CENTS


def _folded(cents: Tensor) -> Tensor:
    """The interval to the nearest octave, -600 to 600 cents."""
    finite = cents.isfinite()
    folded = cents.clone()
    folded[finite] -= 1200 * torch.floor(cents[finite] / 1200 + 0.5)
    return folded
