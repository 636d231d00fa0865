"""From a few measured batches to the largest that fits."""

import pytest

from svc.training.batch_size import Measurement, MemoryLine, Search, check_sizes, sensible

GB = 10**9


def measured(*pairs: tuple[int, float]) -> list[Measurement]:
    return [Measurement(size, round(peak * GB)) for size, peak in pairs]


class Device:
    """Whose steps take fixed + per_crop * B, or more where B is above a bend; has `total`."""

    def __init__(
        self, fixed: float, per_crop: float, total: float, bend: int = 10**9, steeper: float = 0.0
    ) -> None:
        self.fixed, self.per_crop, self.total = fixed, per_crop, total
        self.bend, self.steeper = bend, steeper
        self.tried: list[int] = []

    def needs(self, size: int) -> float:
        return self.fixed + self.per_crop * size + self.steeper * max(size - self.bend, 0)

    def search(self, search: Search) -> int:
        """As `MemoryProbe` goes about it."""
        found: list[Measurement] = []
        too_large = None
        while (size := search.next_size(found, too_large)) is not None:
            self.tried.append(size)
            if self.needs(size) > self.total:
                too_large = min(size, too_large or size)
            else:
                found += measured((size, self.needs(size)))
        return search.result(found, too_large)


def test_line_goes_through_the_two_largest() -> None:
    line = MemoryLine.through(measured((4, 3.0), (1, 2.9), (8, 5.0)))
    assert line.bytes_per_crop == pytest.approx(0.5 * GB)
    assert line.fixed_bytes == pytest.approx(1.0 * GB)
    assert line.at(20) == pytest.approx(11 * GB)
    assert line.largest(11 * GB, 100) == 20
    assert line.largest(10.99 * GB, 100) == 19
    assert line.largest(11 * GB, 12) == 12
    assert line.largest(0.5 * GB, 12) == 0
    with pytest.raises(ValueError, match="two batches"):
        MemoryLine.through(measured((4, 1.0), (4, 1.1)))


def test_a_flat_line_fits_wholly_or_not_at_all() -> None:
    line = MemoryLine.through(measured((1, 1.0), (2, 0.9)))
    assert line.bytes_per_crop == 0
    assert line.largest(1.0 * GB, 64) == 64
    assert line.largest(0.5 * GB, 64) == 0


@pytest.mark.parametrize(
    ("size", "rounded"),
    [(0, 0), (1, 1), (3, 3), (5, 4), (7, 6), (9, 8), (15, 12), (16, 16), (57, 56), (128, 128)],
)
def test_sizes_are_rounded_down(size: int, rounded: int) -> None:
    assert sensible(size) == rounded


@pytest.mark.parametrize(
    ("size", "sizes"), [(1, (1, 2)), (2, (1, 2)), (3, (1, 3)), (8, (4, 8)), (500, (4, 8))]
)
def test_a_check_measures_two_small_sizes(size: int, sizes: tuple[int, int]) -> None:
    assert check_sizes(size) == sizes


def test_search_finds_the_largest_that_fits() -> None:
    device = Device(fixed=2.0, per_crop=0.25, total=16.0)
    assert device.search(Search(usable_bytes=14.4 * GB, most=128)) == 48  # of 49
    assert max(device.tried) == 48
    assert len(device.tried) <= 6


def test_without_daring_three_small_batches_are_all() -> None:
    device = Device(fixed=2.0, per_crop=0.25, total=16.0)
    found = device.search(Search(14.4 * GB, most=128, first=1, daring=False))
    assert device.tried == [1, 2, 4]
    assert device.needs(found) <= 14.4 / 1.25 < device.needs(found + 8)


def test_search_keeps_to_what_is_wanted() -> None:
    assert Device(1.0, 0.01, 80.0).search(Search(72 * GB, most=100)) == 96
    assert Device(1.0, 0.01, 80.0).search(Search(72 * GB, most=3)) == 3
    assert Device(1.0, 0.01, 80.0).search(Search(72 * GB, most=1)) == 1


@pytest.mark.parametrize("total", [16.0, 14.41])
def test_a_bend_is_noticed(total: float) -> None:
    """Where memory grows steeper than small batches promise, the search goes down again."""
    device = Device(1.0, 0.1, total, bend=20, steeper=0.3)
    best = max(size for size in range(1, 129) if device.needs(size) <= 14.4)
    found = device.search(Search(usable_bytes=14.4 * GB, most=128))
    assert 0.8 * best <= found <= best
    assert len(device.tried) < 12


def test_out_of_memory_at_once_leads_to_one_crop_or_none() -> None:
    assert Device(10.0, 3.0, total=14.0).search(Search(13.5 * GB, most=64)) == 1
    nothing = Device(10.0, 5.0, total=14.0)
    assert nothing.search(Search(13.5 * GB, most=64)) == 0
    assert 1 in nothing.tried
    assert Device(10.0, 4.0, total=20.0).search(Search(13.5 * GB, most=64)) == 0
