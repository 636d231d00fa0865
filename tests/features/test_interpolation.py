"""From an encoder's frame grid to the mel's."""

import numpy as np
import pytest
import torch

from svc.audio.spec import AudioSpec
from svc.features.content.base import FrameGrid
from svc.features.interpolation import crop_to_mel_grid, native_span, to_mel_grid

SPEC = AudioSpec()
HOP_S = SPEC.hop_samples / SPEC.sample_rate_hz
GRIDS = [
    pytest.param(FrameGrid(0.02, 0.01), id="50hz"),
    pytest.param(FrameGrid(HOP_S, HOP_S / 2), id="mel"),
    pytest.param(FrameGrid(0.005, 0.0), id="200hz"),
]


def _rows(frames: int, dtype: type = np.float16) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((frames, 8)).astype(dtype)


@pytest.mark.parametrize("grid", GRIDS)
class TestEveryGrid:
    def test_a_linear_function_of_time_stays_itself(self, grid: FrameGrid) -> None:
        centres_s = grid.first_s + grid.step_s * np.arange(300)
        values = to_mel_grid(torch.from_numpy(centres_s)[None], grid, SPEC, 500)[0].numpy()
        wanted_s = (np.arange(500) + 0.5) * HOP_S
        expected = np.clip(wanted_s, centres_s[0], centres_s[-1])
        np.testing.assert_allclose(values, expected, atol=1e-6)

    @pytest.mark.parametrize("first_frame", [0, 1, 37, 160])
    def test_a_crop_is_the_same_span_of_the_whole(self, grid: FrameGrid, first_frame: int) -> None:
        rows = _rows(150)
        whole = crop_to_mel_grid(rows, grid, SPEC, 250)
        crop = crop_to_mel_grid(rows, grid, SPEC, 32, first_frame)
        assert crop.dtype == np.float32
        np.testing.assert_array_equal(crop, whole[first_frame : first_frame + 32])

    def test_tensors_and_rows_agree_to_the_bit(self, grid: FrameGrid) -> None:
        rows = _rows(100)
        from_rows = crop_to_mel_grid(rows, grid, SPEC, 64, 9)
        from_tensor = to_mel_grid(torch.from_numpy(rows.T.copy()), grid, SPEC, 64, 9)
        np.testing.assert_array_equal(from_rows, from_tensor.numpy().T)

    def test_rows_outside_the_span_are_not_needed(self, grid: FrameGrid) -> None:
        rows = _rows(150)
        start, stop = native_span(grid, SPEC, 40, 32, 150)
        holed = np.full_like(rows, np.nan)
        holed[start:stop] = rows[start:stop]
        np.testing.assert_array_equal(
            crop_to_mel_grid(holed, grid, SPEC, 32, 40), crop_to_mel_grid(rows, grid, SPEC, 32, 40)
        )

    def test_ends_are_held(self, grid: FrameGrid) -> None:
        values = crop_to_mel_grid(_rows(3), grid, SPEC, 200)
        np.testing.assert_array_equal(values[-1], _rows(3)[-1].astype(np.float32))
        single = _rows(1).astype(np.float32)
        np.testing.assert_array_equal(
            crop_to_mel_grid(_rows(1), grid, SPEC, 5), single.repeat(5, axis=0)
        )


def test_equal_grids_copy_exactly() -> None:
    rows = _rows(2000)
    values = crop_to_mel_grid(rows, FrameGrid(HOP_S, HOP_S / 2), SPEC, 1900, 50)
    np.testing.assert_array_equal(values, rows[50:1950].astype(np.float32))


def test_a_crop_does_not_alias_the_store() -> None:
    rows = _rows(20, np.float32)
    crop_to_mel_grid(rows, FrameGrid(HOP_S, HOP_S / 2), SPEC, 10)[:] = 0
    np.testing.assert_array_equal(rows, _rows(20, np.float32))


def test_no_frames() -> None:
    assert crop_to_mel_grid(_rows(5), FrameGrid(0.02, 0.01), SPEC, 0).shape == (0, 8)
    with pytest.raises(ValueError, match="without any frame"):
        crop_to_mel_grid(_rows(0), FrameGrid(0.02, 0.01), SPEC, 4)
