"""Contract of every pitch tracker, and how exact Praat's is."""

from pathlib import Path

import pytest
import soxr
import torch
from scipy.signal import butter, sosfiltfilt
from torch import Tensor

from features.feature_signals import BAD_INPUTS, HOP, RATE_HZ, sawtooth, sine, vowels
from features.pitch_options import (
    expected,
    pitch_options,
    tracker_of,
    tracker_with_any_weights,
)
from svc.errors import UserError
from svc.features.pitch.parselmouth import ParselmouthPitch


def _cents(f0_hz: Tensor, reference_hz: Tensor | float) -> Tensor:
    return 1200 * torch.log2(f0_hz / reference_hz)


def _tone(option: str, frequency_hz: float, seconds: float) -> Tensor:
    """A sine for those that find one, else a sawtooth."""
    if expected(option).pure:
        return sine(frequency_hz, seconds)
    return sawtooth(torch.full((round(seconds * RATE_HZ),), frequency_hz))


def _singing(seconds: float) -> tuple[Tensor, Tensor]:
    """A voice that glides between 150 and 300 Hz, and its F0 in the middle of the frames."""
    samples = round(seconds * RATE_HZ)
    f0_hz = 212 * 2 ** (0.5 * torch.sin(2 * torch.pi * 1.5 * torch.arange(samples) / RATE_HZ))
    frames = samples // HOP
    return sawtooth(f0_hz, harmonics=25), f0_hz[torch.arange(frames) * HOP + HOP // 2]


def _telephone(audio: Tensor) -> Tensor:
    """300 to 3400 Hz, at 8 kHz: the fundamental of a low voice is not in it."""
    at_8_khz = soxr.resample(audio.double().numpy(), RATE_HZ, 8000)
    band = butter(6, [300, 3400], btype="bandpass", fs=8000, output="sos")
    return torch.from_numpy(sosfiltfilt(band, at_8_khz).copy()).float()


def _noise(like: Tensor, snr_db: float) -> Tensor:
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(3))
    return noise * like.square().mean().sqrt() * 10 ** (-snr_db / 20)


@pytest.mark.parametrize("option", pitch_options(any_weights=True))
class TestWhateverTheWeights:
    @pytest.mark.parametrize("name", BAD_INPUTS)
    def test_any_input_gives_finite_frames(self, option: str, name: str) -> None:
        tracker = tracker_with_any_weights(option)
        audio = BAD_INPUTS[name]
        pitch = tracker.track(audio, RATE_HZ, HOP)
        assert pitch.f0_hz.shape == pitch.voiced.shape == (audio.shape[0] // HOP,)
        assert pitch.f0_hz.dtype == torch.float32
        assert pitch.voiced.dtype == torch.bool
        assert bool(torch.isfinite(pitch.f0_hz).all())
        in_range = (pitch.f0_hz >= tracker.f0_min_hz) & (pitch.f0_hz <= tracker.f0_max_hz)
        assert bool(in_range.all() if pitch.voiced.any() else (pitch.f0_hz == 0).all())

    @pytest.mark.parametrize("name", ["silence", "constant", "denormals"])
    def test_nothing_voiced_is_all_zeros(self, option: str, name: str) -> None:
        pitch = tracker_with_any_weights(option).track(BAD_INPUTS[name], RATE_HZ, HOP)
        assert not pitch.voiced.any()
        assert not pitch.f0_hz.any()

    def test_runs_agree_to_the_bit(self, option: str) -> None:
        audio = vowels(1.0)
        first, second = (
            tracker_with_any_weights(option).track(audio, RATE_HZ, HOP) for _ in range(2)
        )
        assert torch.equal(first.f0_hz, second.f0_hz)
        assert torch.equal(first.voiced, second.voiced)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_what_is_not_finite_is_the_callers_fault(self, option: str, bad: float) -> None:
        one_nan = vowels(0.5)
        one_nan[1000] = bad
        for audio in (torch.full((RATE_HZ,), bad), one_nan):
            with pytest.raises(ValueError, match="NaN"):
                tracker_with_any_weights(option).track(audio, RATE_HZ, HOP)

    @pytest.mark.parametrize("samples", [1, 511, 512, 1000, 8191, 44_100, 50_000])
    def test_any_length_gives_its_frames(self, option: str, samples: int) -> None:
        pitch = tracker_with_any_weights(option).track(vowels(2.0)[:samples], RATE_HZ, HOP)
        assert pitch.f0_hz.shape == pitch.voiced.shape == (samples // HOP,)
        assert bool(pitch.f0_hz.isfinite().all())

    def test_a_batch_is_its_pieces(self, option: str) -> None:
        tracker = tracker_with_any_weights(option)
        pieces = [vowels(0.5), torch.zeros(0), torch.zeros(5 * HOP), vowels(0.3, seed=1)]
        together = tracker.track_batch(pieces, RATE_HZ, HOP)
        for pitch, piece in zip(together, pieces, strict=True):
            alone = tracker.track(piece, RATE_HZ, HOP)
            assert torch.equal(pitch.f0_hz, alone.f0_hz)
            assert torch.equal(pitch.voiced, alone.voiced)

    @pytest.mark.slow
    def test_ten_minutes_in_one_piece(self, option: str) -> None:
        if not expected(option).ten_minutes:
            pytest.skip(f"{option} would take minutes")
        audio = vowels(20.0).repeat(30)
        tracker = tracker_with_any_weights(option)
        pitch = tracker.track(audio, RATE_HZ, HOP)
        assert pitch.f0_hz.shape == (len(audio) // HOP,)
        assert bool(pitch.f0_hz.isfinite().all())
        # The middle is what it is in a shorter piece.
        if not expected(option).random_weights:
            frame = 300 * RATE_HZ // HOP
            part = tracker.track(audio[frame * HOP :][: 20 * RATE_HZ], RATE_HZ, HOP)
            both = pitch.voiced[frame:][: len(part.voiced)] & part.voiced
            assert float(both.float().mean()) > 0.3
            cents = _cents(pitch.f0_hz[frame:][: len(part.voiced)][both], part.f0_hz[both])
            assert float(cents.abs().median()) < 5


@pytest.mark.parametrize("option", pitch_options())
class TestEveryPitchTracker:
    def test_steady_tones(self, option: str) -> None:
        for frequency_hz in expected(option).tones_hz:
            pitch = tracker_of(option).track(_tone(option, frequency_hz, 0.4), RATE_HZ, HOP)
            inside = slice(5, -5)
            assert bool(pitch.voiced[inside].all()), frequency_hz
            error = float(_cents(pitch.f0_hz[inside], frequency_hz).abs().max())
            assert error < expected(option).cents, frequency_hz

    def test_frames_are_centred_on_the_hop(self, option: str) -> None:
        """On a glide of two octaves a second an error of one hop is 28 cents. Up and down, as a
        tracker's bias in F0 is no delay."""
        late_hops = []
        for direction in (1, -1):
            octaves = direction * 2 * torch.arange(RATE_HZ) / RATE_HZ
            f0_hz = (150 if direction == 1 else 600) * 2**octaves
            pitch = tracker_of(option).track(sawtooth(f0_hz, harmonics=20), RATE_HZ, HOP)
            centres = (torch.arange(pitch.f0_hz.shape[0]) * HOP + HOP // 2)[6:-6]
            assert float(pitch.voiced[6:-6].float().mean()) > 0.95
            cents = _cents(pitch.f0_hz[6:-6], f0_hz[centres])
            late_hops.append(-direction * cents / (2400 * HOP / RATE_HZ))
        both = (late_hops[0].median() + late_hops[1].median()) / 2
        assert float(both.abs()) < 0.25
        assert all(float(late.median().abs()) < 0.5 for late in late_hops)

    def test_f0_runs_through_a_pause(self, option: str) -> None:
        low, high = (sawtooth(torch.full((20 * HOP,), hz)) for hz in (200.0, 400.0))
        audio = torch.cat([low, torch.zeros(41 * HOP), high])
        pitch = tracker_of(option).track(audio, RATE_HZ, HOP)
        assert bool(pitch.voiced[5:15].all())
        assert not pitch.voiced[25:55].any()
        assert bool(pitch.voiced[66:76].all())
        assert float(_cents(pitch.f0_hz[40], 200 * 2**0.5).abs()) < 100
        assert bool((pitch.f0_hz[25:55].diff() > 0).all())

    def test_edges_are_held(self, option: str) -> None:
        tone = sawtooth(torch.full((20 * HOP,), 300.0))
        silence = torch.zeros(20 * HOP)
        audio = torch.cat([silence, tone, silence])
        pitch = tracker_of(option).track(audio, RATE_HZ, HOP)
        known = pitch.voiced.nonzero()[:, 0]
        assert bool((pitch.f0_hz[: known[0]] == pitch.f0_hz[known[0]]).all())
        assert bool((pitch.f0_hz[known[-1] :] == pitch.f0_hz[known[-1]]).all())
        assert int(known[0]) >= 12
        assert int(known[-1]) <= 47

    def test_shifting_by_hops_shifts_the_frames(self, option: str) -> None:
        audio, _ = _singing(1.0)
        whole = tracker_of(option).track(audio, RATE_HZ, HOP).f0_hz
        part = tracker_of(option).track(audio[20 * HOP :], RATE_HZ, HOP).f0_hz
        difference = _cents(part[8:-8], whole[28:-8]).abs()
        assert float(difference.max()) < (1 if expected(option).local else 20)

    def test_other_rates_and_hops(self, option: str) -> None:
        tone = _tone(option, 441.0, 0.8)
        pitch = tracker_of(option).track(tone, RATE_HZ // 2, HOP // 4)
        assert pitch.f0_hz.shape == (tone.shape[0] // 128,)
        assert float(_cents(pitch.f0_hz[20:-20], 220.5).abs().max()) < expected(option).cents

    @pytest.mark.parametrize("damage", ["clean", "clipped", "noisy", "telephone"])
    def test_a_voice_survives_what_recordings_suffer(self, option: str, damage: str) -> None:
        audio, truth_hz = _singing(1.0)
        rate_hz, hop = RATE_HZ, HOP
        if damage == "clipped":
            audio = (20 * audio).clamp(-1, 1)
        elif damage == "noisy":
            audio = audio + _noise(audio, 10.0)
        elif damage == "telephone":
            audio, rate_hz, hop = _telephone(audio), 8000, 80
            centres = ((torch.arange(100) + 0.5) * 80 / 8000 * RATE_HZ).long()
            octaves = 0.5 * torch.sin(2 * torch.pi * 1.5 * centres / RATE_HZ)
            truth_hz = 212 * 2**octaves
        pitch = tracker_of(option).track(audio, rate_hz, hop)
        assert bool(pitch.f0_hz.isfinite().all())
        if damage == "telephone" and not expected(option).missing_fundamental:
            return
        voiced = pitch.voiced[6:-6]
        close = _cents(pitch.f0_hz, truth_hz[: len(pitch.f0_hz)])[6:-6].abs() < 50
        assert float(voiced.float().mean()) > 0.8
        assert float(close[voiced].float().mean()) > 0.9


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
            ({"lowpass_hz": 0.0}, "lowpass_hz=0"),
            ({"voicing_threshold": 1.5}, r"voicing_threshold=1\.5"),
        ],
    )
    def test_settings_out_of_range_are_refused(
        self, settings: dict[str, float], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            ParselmouthPitch(**settings)
