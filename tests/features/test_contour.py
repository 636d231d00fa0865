"""What pitch trackers share."""

import numpy as np
import pytest
import torch

from svc.errors import UserError
from svc.features.pitch.contour import (
    check_range,
    checked_samples,
    interpolate_unvoiced,
    on_frames,
    pitch_of,
)


class TestCheckRange:
    @pytest.mark.parametrize(("low", "high"), [(0, 400), (500, 400), (40, 401), (float("nan"), 9)])
    def test_names_both_ends_and_the_limit(self, low: float, high: float) -> None:
        with pytest.raises(UserError, match=r"f0_min_hz=.*f0_max_hz=.*<= 400"):
            check_range(low, high, 400)

    def test_the_limit_itself_is_allowed(self) -> None:
        check_range(40, 400, 400)


class TestCheckedSamples:
    def test_whole_frames_in_a_new_array(self) -> None:
        audio = torch.arange(11.0)
        samples, frames = checked_samples(audio, 4)
        assert frames == 2
        assert samples.dtype == np.float64
        samples[:] = 7
        assert audio.tolist() == list(range(11))

    def test_in_place_work_leaves_float64_audio_alone(self) -> None:
        audio = torch.arange(8, dtype=torch.float64)
        checked_samples(audio, 4)[0][:] = 7
        assert audio.tolist() == list(range(8))

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_non_finite_is_refused(self, bad: float) -> None:
        with pytest.raises(ValueError, match="NaN or infinite"):
            checked_samples(torch.full((8,), bad), 4)

    def test_channels_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"\(1, 8\)"):
            checked_samples(torch.zeros(1, 8), 4)


class TestOnFrames:
    def test_an_equal_grid_changes_nothing(self) -> None:
        raw = np.array([0.0, 100.3, 200.7, 0.0, 331.0])
        f0_hz, voiced = on_frames(raw, 512 / 44100, 256 / 44100, 5, 512 / 44100)
        assert f0_hz == pytest.approx(raw, rel=1e-12)
        assert (voiced == (raw > 0)).all()

    def test_a_glide_stays_straight_over_log_frequency(self) -> None:
        raw_s = 0.003 + 0.01 * np.arange(101)
        f0_hz, voiced = on_frames(100 * 2**raw_s, 0.01, 0.003, 60, 0.0116)
        centres_s = (np.arange(60) + 0.5) * 0.0116
        assert voiced.all()
        assert np.abs(1200 * np.log2(f0_hz / (100 * 2**centres_s))).max() < 1e-3

    def test_voicing_is_the_nearest_frames_and_silence_does_not_bend_f0(self) -> None:
        raw = np.array([100.0, 200.0, 0.0, 400.0])
        f0_hz, voiced = on_frames(raw, 1.0, 0.0, 8, 0.4)  # at 0.2, 0.6, 1.0, 1.4, 1.8, 2.2, ...
        assert voiced.tolist() == [True] * 4 + [False] * 2 + [True] * 2
        assert f0_hz[[3, 4, 6]].tolist() == [200.0, 0.0, 400.0]
        assert f0_hz[1] == pytest.approx(100 * 2**0.6)

    def test_beyond_the_ends_the_outermost_are_held(self) -> None:
        f0_hz, _ = on_frames(np.array([100.0, 200.0]), 0.1, 0.5, 10, 0.1)
        assert f0_hz[:4] == pytest.approx(100)
        assert f0_hz[-4:] == pytest.approx(200)

    def test_no_raw_frames_are_unvoiced_ones(self) -> None:
        f0_hz, voiced = on_frames(np.zeros(0), 0.01, 0.0, 3, 0.01)
        assert f0_hz.tolist() == [0, 0, 0]
        assert not voiced.any()


def test_interpolation_is_straight_over_log_frequency_and_held_at_the_ends() -> None:
    f0_hz = np.array([0.0, 100.0, 0.0, 0.0, 800.0, 0.0])
    through = interpolate_unvoiced(f0_hz, f0_hz > 0)
    assert through == pytest.approx([100, 100, 200, 400, 800, 800])


def test_a_pitch_is_clipped_to_the_range_where_voiced() -> None:
    pitch = pitch_of(np.array([0.0, 39.9, 0.0, 1700.0]), 40.0, 1600.0)
    assert pitch.voiced.tolist() == [False, True, False, True]
    assert pitch.f0_hz[[0, 1, 3]].tolist() == [40, 40, 1600]
    assert pitch.f0_hz.dtype == torch.float32
    assert not pitch_of(np.zeros(4), 40.0, 1600.0).f0_hz.any()
