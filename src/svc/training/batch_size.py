"""How large a batch may be: from measured steps to the largest that fits.

The memory of a training step grows with the batch along a straight line: weights, optimiser and
moving average at its foot, activations above. Different parts of a step have their peaks at
different times, so that it may grow steeper, never flatter: the two largest measured batches say
most about those still larger.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_SIZE = 4
"""Smallest batch that is measured on a GPU: below, other kernels may be chosen."""

_MOST_MEASUREMENTS = 12
_WORTHWHILE = 1.1
"""Times as large another batch must be to be tried as well."""
_UNTRIED = 1.25
"""Times as much memory as the line says is kept for a batch that was not tried: measured on a CPU,
the line through 2 and 4 crops was up to a fifth too low at 24."""
_STEP_DOWN = 0.9
"""What is tried after a size that did not fit."""


@dataclass(frozen=True)
class Measurement:
    """Memory that training steps took."""

    batch_size: int
    peak_bytes: int
    """Of the whole process on the device."""


@dataclass(frozen=True)
class MemoryLine:
    """fixed + per crop * batch size."""

    fixed_bytes: float
    bytes_per_crop: float

    @classmethod
    def through(cls, measured: Sequence[Measurement]) -> "MemoryLine":
        """The line through the two largest batches.

        Raises:
            ValueError: there are no two of different sizes.
        """
        by_size = {m.batch_size: m for m in measured}
        if len(by_size) < 2:
            raise ValueError("a line needs two batches of different sizes")
        smaller, larger = sorted(by_size.values(), key=lambda m: m.batch_size)[-2:]
        rise = (larger.peak_bytes - smaller.peak_bytes) / (larger.batch_size - smaller.batch_size)
        per_crop = max(rise, 0.0)  # of a tiny model it may be lost in what else goes on
        return cls(larger.peak_bytes - per_crop * larger.batch_size, per_crop)

    def at(self, batch_size: int) -> float:
        """Bytes that a step of this batch size takes."""
        return self.fixed_bytes + self.bytes_per_crop * batch_size

    def largest(self, usable_bytes: float, most: int) -> int:
        """The largest batch size up to `most` whose step takes no more than `usable_bytes`; 0 where
        not even one crop fits."""
        if self.at(most) <= usable_bytes:
            return most
        if self.bytes_per_crop <= 0:
            return 0
        return max(int((usable_bytes - self.fixed_bytes) / self.bytes_per_crop), 0)


@dataclass(frozen=True)
class Search:
    """For the largest batch, from growing measured ones.

    Args:
        usable_bytes: that a step may take.
        most: largest batch size that is wanted.
        first: smallest that is measured.
        daring: measure what is to be chosen, and go down where it does not fit, as is no harm on a
            GPU; otherwise three small batches must do, and the choice is an estimate.
    """

    usable_bytes: float
    most: int
    first: int = FIRST_SIZE
    daring: bool = True

    def next_size(self, measured: Sequence[Measurement], too_large: int | None) -> int | None:
        """Which batch size to measure next; None where all that is needed is known.

        Args:
            measured: so far.
            too_large: smallest size for which there was no memory at all.
        """
        limit = self._limit(measured, too_large)
        sizes = sorted({m.batch_size for m in measured})
        if len(measured) >= _MOST_MEASUREMENTS or limit < 1:
            return None
        if not sizes:
            return min(self.first, limit)
        if len(sizes) == 1:
            other = 2 * sizes[0] if 2 * sizes[0] <= limit else sizes[0] // 2
            return other if other >= 1 else None
        fitting = MemoryLine.through(measured).largest(self.usable_bytes, limit)
        if 2 * sizes[-1] <= fitting and (self.daring or len(sizes) < 3):
            return 2 * sizes[-1]
        chosen, known = sensible(fitting), self._known(measured)
        if self.daring and chosen not in sizes and chosen >= max(1, _WORTHWHILE * known):
            return chosen
        return None

    def result(self, measured: Sequence[Measurement], too_large: int | None) -> int:
        """The batch size to train with; 0 where nothing fits."""
        limit, known = self._limit(measured, too_large), self._known(measured)
        if self.daring or len(measured) < 2:
            return sensible(min(known, limit))
        line = MemoryLine.through(measured)
        return sensible(line.largest(self.usable_bytes / _UNTRIED, limit))

    def _known(self, measured: Sequence[Measurement]) -> int:
        """The largest that was measured and fits."""
        fitting = [m.batch_size for m in measured if m.peak_bytes <= self.usable_bytes]
        return max(fitting, default=0)

    def _limit(self, measured: Sequence[Measurement], too_large: int | None) -> int:
        """The largest that may still be considered."""
        refused = [m.batch_size for m in measured if m.peak_bytes > self.usable_bytes]
        if too_large is not None:
            refused.append(too_large)
        if not refused:
            return self.most
        return min(self.most, min(refused) - 1, max(int(_STEP_DOWN * min(refused)), 1))


def sensible(batch_size: int) -> int:
    """Rounded down to a multiple of a power of two: of 8 from 16 on, of 4 from 8, of 2 from 4."""
    for least, multiple in ((16, 8), (8, 4), (4, 2)):
        if batch_size >= least:
            return batch_size // multiple * multiple
    return batch_size


def check_sizes(batch_size: int, largest: int = 2 * FIRST_SIZE) -> tuple[int, int]:
    """Two small batch sizes from which the memory of `batch_size` can be told.

    Args:
        batch_size: that is meant to be trained with.
        largest: that may be measured.
    """
    larger = max(2, min(largest, batch_size))
    return larger // 2, larger
