"""CREPE: the network against torchcrepe's, the path against every other, the tracker's contour. The
contract is in test_pitch.py."""

import itertools
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from features.feature_signals import BAD_INPUTS, HOP, RATE_HZ, sawtooth, sine, vowels
from svc.errors import UserError
from svc.features.pitch.crepe import CrepePitch
from svc.features.pitch.salience import bin_of_hz, bins_in_range, hz_near, hz_of_bin
from svc.features.pitch.viterbi import likeliest_path
from svc.models.crepe import CrepeNetwork


def cents(f0_hz: Tensor, reference_hz: Tensor | float) -> Tensor:
    return 1200 * torch.log2(f0_hz / reference_hz)


def windows(count: int) -> Tensor:
    """[count, 1024] normalised windows of harmonic tones in noise."""
    generator = torch.Generator().manual_seed(0)
    time_s = torch.arange(1024) / 16_000
    f0_hz = 60 + 900 * torch.rand(count, 1, generator=generator)
    tones = sum(torch.sin(2 * math.pi * f0_hz * k * time_s + k) / k for k in range(1, 7))
    rows = tones + 0.2 * torch.randn(count, 1024, generator=generator)
    rows = rows - rows.mean(dim=1, keepdim=True)
    return rows / rows.std(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def tiny() -> CrepePitch:
    return CrepePitch(model="tiny")


class TestNetwork:
    @staticmethod
    def compare(model: str, count: int) -> None:
        import torchcrepe

        original = torchcrepe.Crepe(model).eval()
        generator = torch.Generator().manual_seed(1)
        tracker = CrepePitch(model=model)  # type: ignore[arg-type]
        state = original.state_dict()
        packaged = tracker.packaged_state()
        assert {k: v.shape for k, v in packaged.items()} == {k: v.shape for k, v in state.items()}
        original.load_state_dict(packaged)
        rows = windows(count)
        rows[0] = torch.randn(1024, generator=generator)
        rows[1] = 0  # silence in the middle of a batch
        rows[2] *= torch.linspace(0, 2, 1024)  # zeros around a window matter
        with torch.no_grad():
            theirs = original(rows)
        exact = CrepeNetwork(packaged)(rows)
        torch.testing.assert_close(exact, theirs, atol=1e-5, rtol=0)
        assert float(theirs.max()) > 0.5  # it is not nothing that agrees
        rough = CrepeNetwork(packaged, torch.bfloat16)(rows)
        voiced = theirs.max(dim=1).values > 0.5
        difference = cents(
            hz_near(rough, rough.argmax(dim=1)), hz_near(theirs, theirs.argmax(dim=1))
        )
        assert float(difference[voiced].abs().max()) < 5

    def test_tiny_equals_torchcrepes(self) -> None:
        self.compare("tiny", 24)

    @pytest.mark.slow
    def test_full_equals_torchcrepes(self) -> None:
        self.compare("full", 12)

    def test_one_window_and_none(self, tiny: CrepePitch) -> None:
        network = CrepeNetwork(tiny.packaged_state())
        rows = windows(5)
        torch.testing.assert_close(network(rows[3:4]), network(rows)[3:4])
        assert network(rows[:0]).shape == (0, 360)

    def test_scales_that_the_maximum_may_not_pass_are_refused(self, tiny: CrepePitch) -> None:
        state = tiny.packaged_state()
        state["conv3_BN.weight"] = -state["conv3_BN.weight"]
        with pytest.raises(ValueError, match="not positive"):
            CrepeNetwork(state)


class TestPath:
    @pytest.mark.parametrize("seed", range(5))
    def test_no_other_path_scores_more(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        frames, bins, jump = 5, 6, -1.5
        steps = np.array([0.0, -0.4, -1.1])
        scores = rng.normal(size=(frames, bins))

        def total(path: tuple[int, ...]) -> float:
            lengths = np.abs(np.diff(path))
            moved = [steps[n] if n < len(steps) else jump for n in lengths]
            return float(scores[np.arange(frames), path].sum() + sum(moved))

        best = max(itertools.product(range(bins), repeat=frames), key=total)
        assert tuple(likeliest_path(scores, steps, jump)) == best

    def test_a_flicker_is_passed_over_and_a_leap_is_followed(self) -> None:
        scores = np.zeros((40, 100))
        scores[:20, 10] = scores[20:, 70] = 1
        scores[8, 10], scores[8, 90] = 0, 1
        steps = np.log(1 - np.arange(12) / 12)
        path = likeliest_path(scores, steps, -12.0)
        assert (path == np.where(np.arange(40) < 20, 10, 70)).all()

    def test_forbidden_bins_are_avoided(self) -> None:
        scores = np.random.default_rng(0).random((20, 30))
        scores[:, 10:] = -np.inf
        assert likeliest_path(scores, np.zeros(3), -1.0).max() < 10

    def test_nothing_and_one_frame(self) -> None:
        assert likeliest_path(np.zeros((0, 5)), np.zeros(2), -1.0).shape == (0,)
        assert likeliest_path(np.eye(5)[3:4], np.zeros(2), -1.0).tolist() == [3]

    def test_jumps_cheaper_than_steps_are_refused(self) -> None:
        with pytest.raises(ValueError, match="jump_score"):
            likeliest_path(np.zeros((2, 5)), np.array([0.0, -3.0]), -2.0)


class TestBins:
    def test_there_and_back(self) -> None:
        for bins in (0.0, 100.0, 359.0):
            assert bin_of_hz(float(hz_of_bin(torch.tensor(bins).double()))) == pytest.approx(bins)

    def test_range_takes_the_nearest_bins(self) -> None:
        assert bins_in_range(10.0, 5000.0) == slice(0, 360)
        searched = bins_in_range(440.0, 440.1)
        assert searched.stop - searched.start == 1
        centre = hz_of_bin(torch.tensor([float(searched.start)]))
        assert abs(float(cents(centre, 440.0))) <= 10

    def test_mean_around_a_peak(self) -> None:
        salience = torch.zeros(3, 360)
        salience[0, 100], salience[0, 101], salience[0, 120] = 0.6, 0.2, 0.9
        salience[1, 359] = 0.5
        expected = hz_of_bin(torch.tensor([100.25, 359.0, 7.0], dtype=torch.float64))
        torch.testing.assert_close(hz_near(salience, torch.tensor([100, 359, 7])), expected)


class TestTracker:
    @pytest.mark.parametrize("name", ["silence", "constant", "denormals"])
    def test_silence_is_unvoiced_and_never_reaches_the_network(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tracker = CrepePitch(model="tiny")
        seen: list[Any] = []
        monkeypatch.setattr(tracker, "_pass", lambda *args: seen.append(args))
        assert not tracker.track(BAD_INPUTS[name], RATE_HZ, HOP).voiced.any()
        assert not seen

    def test_a_pause_costs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tracker = CrepePitch(model="tiny")
        frames: list[int] = []
        through = tracker._pass
        monkeypatch.setattr(tracker, "_pass", lambda w: frames.append(len(w)) or through(w))
        tone = sine(220.0, 0.3)
        pitch = tracker.track(torch.cat([tone, torch.zeros(3 * RATE_HZ), tone]), RATE_HZ, HOP)
        assert pitch.f0_hz.shape[0] == 310
        assert sum(frames) < 65

    @pytest.mark.parametrize("frequency_hz", [50.0, 98.0, 220.0, 441.0, 1000.0, 1500.0])
    def test_sines_within_a_bin(self, tiny: CrepePitch, frequency_hz: float) -> None:
        pitch = tiny.track(sine(frequency_hz, 0.4), RATE_HZ, HOP)
        inside = slice(5, -5)
        assert bool(pitch.voiced[inside].all())
        assert float(cents(pitch.f0_hz[inside], frequency_hz).abs().max()) < 20

    def test_frames_are_centred_on_the_hop(self, tiny: CrepePitch) -> None:
        """On a chirp of two octaves a second an error of one hop would be 28 cents."""
        f0_hz = 150 * 2 ** (2 * torch.arange(RATE_HZ) / RATE_HZ)
        pitch = tiny.track(sawtooth(f0_hz), RATE_HZ, HOP)
        centres = (torch.arange(pitch.f0_hz.shape[0]) * HOP + HOP // 2)[6:-6]
        late_hops = -cents(pitch.f0_hz[6:-6], f0_hz[centres]) / (2400 * HOP / RATE_HZ)
        assert float(late_hops.median().abs()) < 0.2
        assert float(late_hops.mean().abs()) < 0.2

    def test_bf16_within_a_few_cents(self, tiny: CrepePitch) -> None:
        audio = vowels(1.5)
        exact = tiny.track(audio, RATE_HZ, HOP)
        rough = CrepePitch(model="tiny", precision="bf16").track(audio, RATE_HZ, HOP)
        both = exact.voiced & rough.voiced
        assert float((exact.voiced == rough.voiced).float().mean()) > 0.97
        assert float(cents(rough.f0_hz[both], exact.f0_hz[both]).abs().quantile(0.99)) < 5

    def test_batches_change_nothing(self, tiny: CrepePitch) -> None:
        audio = vowels(1.0)
        one = tiny.track(audio, RATE_HZ, HOP)
        other = CrepePitch(model="tiny", batch_size=7).track(audio, RATE_HZ, HOP)
        assert torch.equal(one.voiced, other.voiced)
        torch.testing.assert_close(one.f0_hz, other.f0_hz, rtol=1e-5, atol=0)

    def test_pieces_share_passes_and_are_each_as_alone(
        self, tiny: CrepePitch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a GPU takes them."""
        pieces = [vowels(0.7), torch.zeros(0), torch.zeros(9 * HOP), vowels(0.4, seed=1)]
        alone = [tiny.track(piece, RATE_HZ, HOP) for piece in pieces]
        sizes: list[int] = []
        network = tiny._network

        def counted(windows: Tensor) -> Tensor:
            sizes.append(len(windows))
            return network(windows)

        monkeypatch.setitem(tiny.__dict__, "_network", counted)
        together = tiny._track_together(pieces, RATE_HZ, HOP)
        assert sizes[:-1] == [64] * (len(sizes) - 1), "only the last pass is not full"
        for one, other in zip(together, alone, strict=True):
            assert torch.equal(one.voiced, other.voiced)
            torch.testing.assert_close(one.f0_hz, other.f0_hz, rtol=1e-5, atol=0)

    def test_range_is_kept(self) -> None:
        tracker = CrepePitch(model="tiny", f0_min_hz=300.0, f0_max_hz=500.0)
        pitch = tracker.track(sawtooth(torch.full((RATE_HZ // 2,), 200.0)), RATE_HZ, HOP)
        assert bool(((pitch.f0_hz == 0) | (pitch.f0_hz >= 300)).all())
        assert float(pitch.f0_hz.max()) <= 500

    def test_an_octave_leap_takes_no_time(self, tiny: CrepePitch) -> None:
        low, high = (sawtooth(torch.full((30 * HOP,), hz)) for hz in (220.0, 440.0))
        pitch = tiny.track(torch.cat([low, high]), RATE_HZ, HOP)
        between = (cents(pitch.f0_hz, 220.0).abs() > 50) & (cents(pitch.f0_hz, 440.0).abs() > 50)
        assert int(between[5:-5].sum()) <= 2

    def test_telephone_rate(self, tiny: CrepePitch) -> None:
        time_s = torch.arange(4000) / 8000
        pitch = tiny.track(0.5 * torch.sin(2 * math.pi * 220 * time_s), 8000, 93)
        assert pitch.f0_hz.shape == (4000 // 93,)
        assert float(cents(pitch.f0_hz[5:-5], 220.0).abs().max()) < 20

    def test_survives_the_way_to_a_worker(self, tiny: CrepePitch) -> None:
        audio = vowels(0.4)
        expected = tiny.track(audio, RATE_HZ, HOP)
        sent = pickle.dumps(tiny)
        assert len(sent) < 10_000
        assert torch.equal(pickle.loads(sent).track(audio, RATE_HZ, HOP).f0_hz, expected.f0_hz)

    def test_identity_tells_the_sizes_apart(self, tiny: CrepePitch) -> None:
        assert len(tiny.identity()["weights_sha256"]) == 64
        assert tiny.identity() != CrepePitch(model="full").identity()
        assert tiny.identity() != CrepePitch(model="tiny", precision="bf16").identity()

    def test_a_damaged_package_is_named(
        self, tiny: CrepePitch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        file = tmp_path / "tiny.pth"
        file.write_bytes(b"half of a fi")
        monkeypatch.setattr("svc.features.pitch.crepe._weights_of", lambda model: file)
        with pytest.raises(UserError, match=r"tiny\.pth"):
            CrepePitch(model="tiny").track(sine(220.0, 0.1), RATE_HZ, HOP)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_an_absent_device_is_named(self) -> None:
        with pytest.raises(UserError, match=r"pitch\.device=cuda"):
            CrepePitch(model="tiny", device="cuda")

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"model": "huge"}, "pitch.model=huge"),
            ({"f0_min_hz": 0.0}, "f0_min_hz=0"),
            ({"f0_max_hz": 3000.0}, "f0_max_hz=3000"),
            ({"periodicity_threshold": 1.0}, "periodicity_threshold=1"),
            ({"precision": "fp8"}, "pitch.precision=fp8"),
            ({"batch_size": 0}, "batch_size=0"),
            ({"device": "gpu7"}, "pitch.device=gpu7"),
        ],
    )
    def test_settings_out_of_range_are_refused(
        self, settings: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            CrepePitch(**settings)

    def test_auto_chooses_one_of_both(self) -> None:
        audio = sine(220.0, 0.2)
        auto = CrepePitch(model="tiny", precision="auto").track(audio, RATE_HZ, HOP).f0_hz
        both = [
            CrepePitch(model="tiny", precision=p).track(audio, RATE_HZ, HOP).f0_hz  # type: ignore[arg-type]
            for p in ("fp32", "bf16")
        ]
        assert any(torch.equal(auto, one) for one in both)

    @pytest.mark.slow
    def test_ten_minutes_in_one_piece(self, tiny: CrepePitch) -> None:
        tone = sine(220.0, 10.0)
        audio = torch.cat([tone, torch.zeros(580 * RATE_HZ), tone])
        pitch = tiny.track(audio, RATE_HZ, HOP)
        assert pitch.f0_hz.shape[0] == 600 * RATE_HZ // HOP
        assert int(pitch.voiced.sum()) == pytest.approx(20 * RATE_HZ / HOP, abs=20)
        assert float(cents(pitch.f0_hz[[10, 500, -500, -10]], 220.0).abs().max()) < 20

    @pytest.mark.slow
    def test_full_follows_a_voice(self) -> None:
        from svc.data.demo.phrases import training_phrase
        from svc.data.demo.singers import SINGERS

        phrase = training_phrase(0, 0, SINGERS[0], phrase_s=(2.0, 2.5))
        pitch = CrepePitch(model="full", precision="auto").track(phrase.audio, RATE_HZ, HOP)
        error = cents(pitch.f0_hz, phrase.f0_hz)[phrase.voiced & pitch.voiced].abs()
        assert float((error < 50).float().mean()) > 0.97
        assert float(error.median()) < 10
