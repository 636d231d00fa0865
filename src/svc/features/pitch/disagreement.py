"""Where several trackers disagree about one recording."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svc.features.pitch.repair import runs

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_LEAST_VOICING_S = 0.05
"""Shorter disagreements in voicing are edges of notes, which no two trackers put alike."""


@dataclass(frozen=True)
class Disagreement:
    """A stretch of time about which the members are of several minds."""

    start_s: float
    stop_s: float
    kind: str
    """"octave" (whole octaves apart in most of it), "f0" or "voicing"."""


@dataclass(frozen=True)
class EnsembleReport:
    """Where the members of an ensemble disagree about a recording. Shares are of all frames."""

    share: float
    """Of frames in which members differ, in F0 by more than the tolerance or in voicing."""
    f0_share: float
    """Of frames in which members that are voiced differ in F0."""
    octave_share: float
    """Of frames in which they differ by whole octaves."""
    voicing_share: float
    """Of frames in which some members are voiced and others are not."""
    spans: tuple[Disagreement, ...]
    """Where they differ in F0, and where they differ in voicing for 50 ms or longer."""
    outvoted: dict[str, float]
    """By member, the share of the voted voiced frames in which it says something else."""


def report_of(
    names: Sequence[str],
    contours: Floats,
    voted: Floats,
    tolerance_octaves: float,
    hop_s: float,
) -> EnsembleReport:
    """Compare contours with each other and with what was voted.

    Args:
        names: of the M members.
        contours: [M, N] log2 of F0 in Hz, NaN where unvoiced.
        voted: [N] likewise.
        tolerance_octaves: up to which contours say the same.
        hop_s: distance of the frames, frame i at (i + 1/2) * hop_s.
    """
    voices = np.isfinite(contours)
    votes = voices.sum(axis=0)
    highest = np.where(voices, contours, -np.inf).max(axis=0)
    lowest = np.where(voices, contours, np.inf).min(axis=0)
    apart = np.where(votes > 1, highest, 0.0) - np.where(votes > 1, lowest, 0.0)
    f0 = apart > tolerance_octaves
    octave = f0 & (np.abs(apart - np.rint(apart)) <= tolerance_octaves)
    voicing = (votes > 0) & (votes < len(contours))
    said = np.isfinite(voted)
    beside = said & ~(np.abs(contours - np.where(said, voted, 0.0)) <= tolerance_octaves)
    return EnsembleReport(
        share=_share(f0 | voicing),
        f0_share=_share(f0),
        octave_share=_share(octave),
        voicing_share=_share(voicing),
        spans=_spans(f0, octave, voicing, hop_s),
        outvoted={
            name: float(row.sum() / max(said.sum(), 1))
            for name, row in zip(names, beside, strict=True)
        },
    )


def _spans(f0: Bools, octave: Bools, voicing: Bools, hop_s: float) -> tuple[Disagreement, ...]:
    spans = []
    for start, stop in runs(f0):
        kind = "octave" if 2 * octave[start:stop].sum() > stop - start else "f0"
        spans.append(Disagreement(start * hop_s, stop * hop_s, kind))
    for start, stop in runs(voicing & ~f0):
        if (stop - start) * hop_s >= _LEAST_VOICING_S:
            spans.append(Disagreement(start * hop_s, stop * hop_s, "voicing"))
    return tuple(sorted(spans, key=lambda span: span.start_s))


def _share(where: Bools) -> float:
    return float(where.mean()) if len(where) else 0.0
