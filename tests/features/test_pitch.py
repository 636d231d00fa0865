"""Contract of every pitch tracker, and how exact Praat's is."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from features.feature_signals import BAD_INPUTS, HOP, RATE_HZ, sawtooth, sine, vowels
from svc.errors import UserError
from svc.features.pitch.base import PitchTracker
from svc.features.pitch.parselmouth import ParselmouthPitch


def _cents(f0_hz: Tensor, reference_hz: Tensor | float) -> Tensor:
    return 1200 * torch.log2(f0_hz / reference_hz)


@pytest.mark.parametrize("tracker", [pytest.param(ParselmouthPitch(), id="parselmouth")])
class TestEveryPitchTracker:
    @pytest.mark.parametrize("name", BAD_INPUTS)
    def test_any_input_gives_finite_frames(self, tracker: PitchTracker, name: str) -> None:
        audio = BAD_INPUTS[name]
        pitch = tracker.track(audio, RATE_HZ, HOP)
        assert pitch.f0_hz.shape == pitch.voiced.shape == (audio.shape[0] // HOP,)
        assert pitch.f0_hz.dtype == torch.float32
        assert pitch.voiced.dtype == torch.bool
        assert bool(torch.isfinite(pitch.f0_hz).all())
        in_range = (pitch.f0_hz >= tracker.f0_min_hz) & (pitch.f0_hz <= tracker.f0_max_hz)
        assert bool(in_range.all() if pitch.voiced.any() else (pitch.f0_hz == 0).all())

    @pytest.mark.parametrize("name", ["silence", "constant", "denormals"])
    def test_nothing_voiced_is_all_zeros(self, tracker: PitchTracker, name: str) -> None:
        pitch = tracker.track(BAD_INPUTS[name], RATE_HZ, HOP)
        assert not pitch.voiced.any()
        assert not pitch.f0_hz.any()

    @pytest.mark.parametrize("frequency_hz", [60.0, 98.0, 220.0, 441.0, 1000.0, 1500.0])
    def test_sines_within_five_cents(self, tracker: PitchTracker, frequency_hz: float) -> None:
        pitch = tracker.track(sine(frequency_hz, 0.6), RATE_HZ, HOP)
        inside = slice(5, -5)
        assert bool(pitch.voiced[inside].all())
        assert float(_cents(pitch.f0_hz[inside], frequency_hz).abs().max()) < 5

    def test_frames_are_centred_on_the_hop(self, tracker: PitchTracker) -> None:
        """On a glide of two octaves a second an error of one hop would be 28 cents."""
        octaves = 2 * torch.arange(RATE_HZ) / RATE_HZ
        f0_hz = 150 * 2**octaves
        pitch = tracker.track(sawtooth(f0_hz), RATE_HZ, HOP)
        centres = (torch.arange(pitch.f0_hz.shape[0]) * HOP + HOP // 2)[6:-6]
        late_hops = -_cents(pitch.f0_hz[6:-6], f0_hz[centres]) / (2400 * HOP / RATE_HZ)
        assert float(late_hops.median().abs()) < 0.1
        assert float(late_hops.abs().max()) < 0.5

    def test_f0_runs_through_a_pause(self, tracker: PitchTracker) -> None:
        low, high = (sawtooth(torch.full((20 * HOP,), hz)) for hz in (200.0, 400.0))
        pitch = tracker.track(torch.cat([low, torch.zeros(41 * HOP), high]), RATE_HZ, HOP)
        assert bool(pitch.voiced[5:15].all())
        assert not pitch.voiced[25:55].any()
        assert bool(pitch.voiced[66:76].all())
        assert float(_cents(pitch.f0_hz[40], 200 * 2**0.5).abs()) < 60
        assert bool((pitch.f0_hz[25:55].diff() > 0).all())

    def test_edges_are_held(self, tracker: PitchTracker) -> None:
        tone = sawtooth(torch.full((20 * HOP,), 300.0))
        silence = torch.zeros(20 * HOP)
        f0_hz = tracker.track(torch.cat([silence, tone, silence]), RATE_HZ, HOP).f0_hz
        assert float(f0_hz[0]) == float(f0_hz[10])
        assert float(f0_hz[-1]) == float(f0_hz[-10])

    def test_runs_agree_to_the_bit(self, tracker: PitchTracker) -> None:
        audio = vowels(1.5)
        first, second = (tracker.track(audio, RATE_HZ, HOP) for _ in range(2))
        assert torch.equal(first.f0_hz, second.f0_hz)
        assert torch.equal(first.voiced, second.voiced)

    def test_shifting_by_hops_shifts_the_frames(self, tracker: PitchTracker) -> None:
        audio = sawtooth(250 * 2 ** (0.2 * torch.sin(torch.arange(RATE_HZ) / 2500)))
        whole = tracker.track(audio, RATE_HZ, HOP).f0_hz
        part = tracker.track(audio[20 * HOP :], RATE_HZ, HOP).f0_hz
        assert float(_cents(part[8:-8], whole[28:-8]).abs().max()) < 1

    def test_other_rates_and_hops(self, tracker: PitchTracker) -> None:
        pitch = tracker.track(sine(220.0, 0.5), RATE_HZ // 4, HOP // 4)
        assert pitch.f0_hz.shape == (22050 // 128,)
        assert float(_cents(pitch.f0_hz[20:-20], 55.0).abs().max()) < 5

    def test_nan_is_the_callers_fault(self, tracker: PitchTracker) -> None:
        with pytest.raises(ValueError, match="NaN"):
            tracker.track(torch.full((RATE_HZ,), torch.nan), RATE_HZ, HOP)


class TestParselmouth:
    def test_follows_the_predecessors_track(self, shared: Path) -> None:
        golden = torch.load(shared / "golden" / "features_small.pt", weights_only=True)
        pitch = ParselmouthPitch().track(golden["wav"][0], RATE_HZ, HOP)
        theirs = golden["pitch"]["parselmouth_keep_zeros"][: pitch.f0_hz.shape[0]]
        both = pitch.voiced & (theirs > 0)
        assert float((pitch.voiced == (theirs > 0)).float().mean()) > 0.9
        # It resamples a shorter track to the frames, so that it lags by up to a few of them.
        assert float(_cents(pitch.f0_hz[both], theirs[both]).abs().median()) < 25

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"f0_min_hz": 0.0}, "f0_min_hz=0"),
            ({"f0_min_hz": 500.0, "f0_max_hz": 400.0}, "f0_max_hz=400"),
            ({"f0_max_hz": 9000.0}, "below|<"),
            ({"voicing_threshold": 1.5}, r"voicing_threshold=1\.5"),
        ],
    )
    def test_settings_out_of_range_are_refused(
        self, settings: dict[str, float], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            ParselmouthPitch(**settings)

    @pytest.mark.slow
    def test_ten_minutes_in_one_piece(self) -> None:
        pitch = ParselmouthPitch().track(sine(220.0, 600.0), RATE_HZ, HOP)
        assert float(_cents(pitch.f0_hz[10:-10], 220.0).abs().max()) < 1
