"""Which recordings are the same, byte for byte or encoded anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svc.doctor.frames import FRAME_S, Floats
from svc.hashing import file_sha256

_MAX_LENGTH_DIFFERENCE_S = 0.15
"""Coders add up to about 0.1 s of silence."""
_MAX_LAG_FRAMES = 9
_AUDIBLE_DB = 40.0
_OUTLINE_POINTS = 64
_OUTLINE_CORRELATION = 0.8
_MAX_BIT_ERRORS = 0.3
_MIN_FRAMES = 20
_BITS = 16


@dataclass(frozen=True)
class Fingerprint:
    """What a recording is recognised by."""

    sha256: str
    """Of the file."""
    frames: int
    bits: NDArray[np.uint16]
    """[N] 16 bits a frame."""
    audible: NDArray[np.bool_]
    """[N] frames within 40 dB of the loudest."""
    outline: Floats
    """[64] float32: course of the level, mean 0 and norm 1."""


@dataclass(frozen=True)
class Duplicate:
    """Two recordings of the same sound."""

    first: int
    second: int
    """Indices of the recordings; `second` is the one to leave out."""
    exact: bool
    """Whether the files are equal byte for byte."""


def fingerprint(path: Path, power: Floats, levels_db: Floats) -> Fingerprint:
    """Haitsma and Kalker, "A highly robust audio fingerprinting system" (2002).

    A bit says whether the difference of two neighbouring bands' power grew from the last frame to
    this one. Coding, gain and filters leave most of the bits as they are.

    Args:
        path: the file.
        power: [N, 17] from `svc.doctor.frames`.
        levels_db: [N].
    """
    sha256 = file_sha256(path)
    slopes = np.diff(power, axis=1)
    grows = np.diff(slopes, axis=0, prepend=slopes[:1]) > 0
    bits = grows @ (1 << np.arange(_BITS, dtype=np.int64))
    position = np.linspace(0, len(levels_db) - 1, _OUTLINE_POINTS)
    outline = np.interp(position, np.arange(len(levels_db)), np.maximum(levels_db, -80.0))
    outline -= outline.mean()
    norm = float(np.linalg.norm(outline))
    return Fingerprint(
        sha256,
        len(levels_db),
        bits.astype(np.uint16),
        levels_db > levels_db.max() - _AUDIBLE_DB,
        (outline / norm if norm else outline).astype(np.float32),
    )


def find_duplicates(prints: Sequence[Fingerprint]) -> list[Duplicate]:
    """Every recording that is the same as an earlier one of nearly the same length.

    A part that was cut from a longer recording is not recognised. Fingerprints agree where fewer
    than 30 % of the bits differ (measured: at most 13 % after MP3 or Vorbis, at least 36 % between
    different recordings); only pairs whose levels take a similar course are compared.

    Returns:
        One entry for each recording that is to be left out.
    """
    found: list[Duplicate] = []
    outlines = np.stack([p.outline for p in prints]) if prints else np.zeros((0, _OUTLINE_POINTS))
    lengths_s = np.array([p.frames for p in prints]) * FRAME_S
    for second, item in enumerate(prints):
        similar = outlines[:second] @ item.outline > _OUTLINE_CORRELATION
        similar &= np.abs(lengths_s[:second] - lengths_s[second]) <= _MAX_LENGTH_DIFFERENCE_S
        exact: list[int] = [i for i in range(second) if prints[i].sha256 == item.sha256]
        again = [
            int(i)
            for i in np.flatnonzero(similar)
            if bit_errors(prints[int(i)], item) < _MAX_BIT_ERRORS
        ]
        if exact or again:
            found.append(Duplicate((exact or again)[0], second, bool(exact)))
    return found


def bit_errors(one: Fingerprint, other: Fingerprint) -> float:
    """Share of bits that differ where both are audible, at the best of a few lags; 1 where too
    little is audible in both."""
    best = 1.0
    for lag in range(-_MAX_LAG_FRAMES, _MAX_LAG_FRAMES + 1):
        here, there = max(lag, 0), max(-lag, 0)
        count = min(one.frames - here, other.frames - there)
        if count < _MIN_FRAMES:
            continue
        mine, theirs = slice(here, here + count), slice(there, there + count)
        both = one.audible[mine] & other.audible[theirs]
        if np.count_nonzero(both) < _MIN_FRAMES:
            continue
        differing = np.bitwise_count(one.bits[mine][both] ^ other.bits[theirs][both])
        best = min(best, float(differing.mean()) / _BITS)
    return best
