"""RMVPE: the published outputs, layouts and faults of weights, pieces, and the mel's frames.

The published weights are not here; those of the small network in the golden data are random, so
that its F0 means nothing, and what a tracker must find is tested with a stand-in for the network.
The contract is in test_pitch.py.
"""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchaudio.functional import resample

from features.feature_signals import HOP, RATE_HZ, sine, vowels
from svc.checkpoints.layouts.rmvpe import load_rmvpe
from svc.errors import UserError
from svc.features.pitch.rmvpe import RmvpeMel, RmvpePitch
from svc.features.pitch.salience import bin_of_hz
from svc.models.rmvpe import PITCH_BINS, Rmvpe, RmvpeSize

WHOLE_RANGE = {"f0_min_hz": 31.0, "f0_max_hz": 2005.0}
TINY = RmvpeSize(channels=2, levels=2, blocks=1, bottom_layers=1)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    values: dict[str, Any] = torch.load(shared / "golden" / "rmvpe_small.pt", weights_only=True)
    return values


@pytest.fixture(scope="module")
def golden_file(golden: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rmvpe") / "rmvpe.pt"
    torch.save(golden["state_dict"], file)
    return file


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a very small network."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("tiny") / "tiny.pt"
    torch.save(Rmvpe(TINY).state_dict(), file)
    return file


@pytest.fixture
def state(tiny_file: Path) -> Any:
    return torch.load(tiny_file, weights_only=True)


class TestPublishedOutputs:
    def test_mel(self, golden: dict[str, Any]) -> None:
        mel = RmvpeMel()
        torch.testing.assert_close(mel.filters, golden["mel_basis"], atol=1e-6, rtol=0)
        ours = mel(golden["audio_16k"][0])
        torch.testing.assert_close(ours, golden["mel"][0], atol=2e-4, rtol=0)

    def test_salience(self, golden: dict[str, Any], golden_file: Path) -> None:
        tracker = RmvpePitch(model=str(golden_file))
        ours = tracker.salience(golden["mel"][0])
        torch.testing.assert_close(ours, golden["salience"][0], atol=1e-5, rtol=0)

    def test_network_before_folding(self, golden: dict[str, Any], golden_file: Path) -> None:
        mel = torch.nn.functional.pad(golden["mel"], (0, -golden["mel"].shape[-1] % 32), "reflect")
        with torch.no_grad():
            ours = load_rmvpe(golden_file).eval()(mel)[:, : golden["mel"].shape[-1]]
        torch.testing.assert_close(ours, golden["salience"], atol=1e-5, rtol=0)

    def test_decoding_at_three_thresholds(self, golden: dict[str, Any], golden_file: Path) -> None:
        assert len(golden["decoded_f0"]) == 3
        for threshold, theirs in golden["decoded_f0"].items():
            tracker = RmvpePitch(str(golden_file), **WHOLE_RANGE, threshold=float(threshold))
            ours = tracker.decode(golden["salience"][0])
            np.testing.assert_array_equal(ours > 0, theirs > 0)
            np.testing.assert_allclose(ours, theirs, rtol=2e-6)
            assert 0 < int((theirs > 0).sum()) < len(theirs)

    def test_extractor_at_16_khz(self, golden: dict[str, Any], golden_file: Path) -> None:
        tracker = RmvpePitch(str(golden_file), **WHOLE_RANGE)
        ours = tracker.decode(tracker.salience(RmvpeMel()(golden["audio_16k"][0])))
        theirs = golden["extractor"]["keep_zeros"]["f0_from_16k"].numpy()
        np.testing.assert_array_equal(ours > 0, theirs > 0)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)

    def test_extractor_at_44_khz(self, golden: dict[str, Any], golden_file: Path) -> None:
        """The original resamples with torchaudio and then stretches the contour to the frames."""
        tracker = RmvpePitch(str(golden_file), **WHOLE_RANGE)
        at_16_khz = resample(golden["audio_44k"][0], 44_100, 16_000)
        raw = tracker.decode(tracker.salience(RmvpeMel()(at_16_khz)))
        theirs = golden["extractor"]["keep_zeros"]["f0_from_44k_pad"].numpy()
        nearest = raw[(np.arange(95) * len(raw) / 95).astype(int)]
        same = np.isclose(nearest, theirs, rtol=1e-3)
        assert same.mean() > 0.4  # elsewhere it lies between two raw frames
        # Our resampler is another one. What it changes is small in the mel where there is sound.
        ours = RmvpeMel()(
            torch.from_numpy(soxr.resample(golden["audio_44k"][0].numpy(), 44_100, 16_000))
        )
        reference = RmvpeMel()(at_16_khz)[:, : ours.shape[1]]
        loud = reference > reference.max() - 5
        assert float((ours[:, : reference.shape[1]] - reference)[loud].abs().median()) < 0.01


class TestWeights:
    def test_names_and_shapes_are_the_published_ones(self, shared: Path) -> None:
        layout = json.loads((shared / "golden" / "rmvpe_full_layout.json").read_text())
        with torch.device("meta"):
            network = Rmvpe()
        found = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        assert found == {name: shape for name, (shape, _) in layout["tensors"].items()}
        assert sum(p.numel() for p in network.parameters()) == layout["n_params"]
        assert RmvpeSize.of(found, found["cnn.weight"][1]) == RmvpeSize()

    @pytest.mark.slow
    def test_published_size_in_half_precision(self, tmp_path: Path) -> None:
        """The published file holds halves."""
        file = tmp_path / "rmvpe.pt"
        torch.manual_seed(0)
        torch.save({name: t.half() for name, t in Rmvpe().state_dict().items()}, file)
        tracker = RmvpePitch(str(file), threshold=1e-3)
        pitch = tracker.track(sine(220.0, 0.5), RATE_HZ, HOP)
        assert pitch.f0_hz.shape == (22050 // HOP,)
        assert bool(pitch.f0_hz.isfinite().all())

    def test_safetensors(self, tiny_file: Path, state: dict[str, Tensor], tmp_path: Path) -> None:
        file = tmp_path / "rmvpe.safetensors"
        save_file(state, file)
        mel = RmvpeMel()(vowels(0.5))
        torch.testing.assert_close(
            RmvpePitch(str(file)).salience(mel), RmvpePitch(str(tiny_file)).salience(mel)
        )
        assert RmvpePitch(str(file)).identity() != RmvpePitch(str(tiny_file)).identity()

    def test_counts_of_steps_are_not_needed(self, state: dict[str, Tensor], tmp_path: Path) -> None:
        file = tmp_path / "rmvpe.pt"
        torch.save({k: v for k, v in state.items() if "num_batches" not in k}, file)
        assert RmvpePitch(str(file)).salience(torch.zeros(128, 8)).shape == (8, 360)

    def test_faults_are_named_together(self, state: dict[str, Tensor], tmp_path: Path) -> None:
        del state["fc.1.bias"]
        state["fc.1.weight"] = state["fc.1.weight"][:, :-1]
        state["decoder.extra"] = torch.zeros(1)
        file = tmp_path / "rmvpe.pt"
        torch.save(state, file)
        with pytest.raises(UserError) as caught:
            RmvpePitch(str(file))
        message = str(caught.value)
        assert str(file) in message
        assert "fc.1.bias is missing" in message
        assert "decoder.extra is unknown" in message
        assert "fc.1.weight has shape (360, 511) instead of (360, 512)" in message

    def test_weights_of_something_else(self, tmp_path: Path) -> None:
        file = tmp_path / "rmvpe.pt"
        torch.save({"encoder.weight": torch.zeros(3, 3)}, file)
        with pytest.raises(UserError, match=r"does not hold the weights of RMVPE(.|\n)* more"):
            RmvpePitch(str(file))

    @pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n"])
    def test_not_weights(self, content: bytes, tmp_path: Path) -> None:
        file = tmp_path / "rmvpe.pt"
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"rmvpe\.pt"):
            RmvpePitch(str(file))

    def test_truncated(self, tiny_file: Path, tmp_path: Path) -> None:
        file = tmp_path / "rmvpe.pt"
        file.write_bytes(tiny_file.read_bytes()[:100_000])
        with pytest.raises(UserError, match=r"rmvpe\.pt"):
            RmvpePitch(str(file))

    def test_absent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SVC_CHECKPOINT_DIR", str(tmp_path))
        with pytest.raises(UserError, match="pitch=parselmouth") as caught:
            RmvpePitch(offline=True)
        assert "rmvpe.pt" in str(caught.value)
        assert str(tmp_path) in str(caught.value)


class TestTracker:
    @pytest.fixture(scope="class")
    def tracker(self, tiny_file: Path) -> RmvpePitch:
        return RmvpePitch(str(tiny_file))

    def test_frames_are_centred_on_the_hop(
        self, tracker: RmvpePitch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A network that answers with the strongest frequency follows a chirp of an octave a second
        to within half a hop, here of 14 cents."""

        def strongest(mel: Tensor) -> Tensor:
            amplitude = mel.double().exp().square()
            top = 2595 * np.log10(1 + 8000 / 700)
            bottom = 2595 * np.log10(1 + 30 / 700)
            centres = torch.linspace(bottom, top, 130, dtype=torch.float64)[1:-1]
            mean = (amplitude * centres[:, None]).sum(dim=0) / amplitude.sum(dim=0)
            bins = [bin_of_hz(hz) for hz in (700 * (10 ** (mean / 2595) - 1)).tolist()]
            distance = torch.arange(PITCH_BINS) - torch.tensor(bins)[:, None]
            return torch.exp(-0.5 * distance.square()).float()

        monkeypatch.setattr(tracker, "salience", strongest)
        f0_hz = 500 * 2 ** (torch.arange(RATE_HZ, dtype=torch.float64) / RATE_HZ)
        audio = torch.sin(2 * torch.pi * torch.cumsum(f0_hz / RATE_HZ, dim=0)).float()
        pitch = tracker.track(audio, RATE_HZ, HOP)
        monkeypatch.undo()
        centres = (torch.arange(pitch.f0_hz.shape[0]) * HOP + HOP // 2)[6:-6]
        assert bool(pitch.voiced.all())
        late = -1200 * torch.log2(pitch.f0_hz[6:-6] / f0_hz[centres]) / (1200 * HOP / RATE_HZ)
        assert float(late.mean().abs()) < 0.2

    def test_pieces_agree_with_the_whole(self, golden_file: Path) -> None:
        mel = RmvpeMel()(vowels(2.4))  # 6.6 s where 16 kHz are meant
        whole = RmvpePitch(str(golden_file)).salience(mel)
        wander = (whole - whole.mean(dim=0)).norm()
        for batch_size in (1, 3):
            tracker = RmvpePitch(str(golden_file), chunk_s=2.0, batch_size=batch_size)
            pieces = tracker.salience(mel)
            assert pieces.shape == whole.shape
            torch.testing.assert_close(pieces[:200], whole[:200])
            # Late by one frame, it would be 0.22.
            assert float((pieces - whole).norm() / wander) < 0.03

    def test_pieces_of_any_length_go_through_together_as_each_alone(
        self, golden_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a GPU takes them. Without the masks some would differ by 0.06."""
        tracker = RmvpePitch(str(golden_file), chunk_s=2.0, batch_size=2)
        audio = vowels(1.1)
        mels = [RmvpeMel()(audio[:samples]) for samples in (16_000, 5000, 40_000, 9000)]
        mels.insert(2, torch.zeros(128, 0))
        alone = [tracker.salience(mel) if mel.shape[1] else mel.T for mel in mels]
        calls: list[list[int]] = []
        network = tracker._network

        def counted(mel: Tensor, lengths: list[int] | None = None) -> Tensor:
            calls.append(lengths or [mel.shape[-1]] * len(mel))
            return network(mel, lengths)

        monkeypatch.setitem(tracker.__dict__, "_network", counted)
        counted.size = network.size  # type: ignore[attr-defined]
        together = tracker.saliences(mels)
        assert len(calls) == 2, "at most 4 s in one pass, and the last piece is cut in two"
        assert calls[0] == [32, 64, 128]
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one, other.reshape(-1, 360), atol=1e-5, rtol=0)

    def test_bf16_is_near(self, golden: dict[str, Any], golden_file: Path) -> None:
        exact = golden["salience"][0]
        rough = RmvpePitch(str(golden_file), precision="bf16").salience(golden["mel"][0])
        assert 0 < float((rough - exact).norm() / exact.norm()) < 0.02

    def test_survives_the_way_to_a_worker(self, tracker: RmvpePitch) -> None:
        audio = vowels(0.4)
        sent = pickle.dumps(tracker)
        assert len(sent) < 10_000
        again = pickle.loads(sent).track(audio, RATE_HZ, HOP)
        assert torch.equal(again.f0_hz, tracker.track(audio, RATE_HZ, HOP).f0_hz)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"f0_min_hz": 0.0}, "f0_min_hz=0"),
            ({"f0_max_hz": 3000.0}, "f0_max_hz=3000"),
            ({"threshold": 0.0}, "pitch.threshold=0"),
            ({"chunk_s": 0.5}, r"pitch.chunk_s=0\.5"),
            ({"batch_size": 0}, "pitch.batch_size=0"),
            ({"precision": "int8"}, "pitch.precision=int8"),
        ],
    )
    def test_settings_out_of_range_are_refused(
        self, tiny_file: Path, settings: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            RmvpePitch(str(tiny_file), **settings)

    @pytest.mark.slow
    def test_a_long_recording_in_one_piece(self, tracker: RmvpePitch) -> None:
        pitch = tracker.track(sine(220.0, 100.0), RATE_HZ, HOP)
        assert pitch.f0_hz.shape[0] == 100 * RATE_HZ // HOP
        assert bool(pitch.f0_hz.isfinite().all())
