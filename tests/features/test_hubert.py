"""HuBERT in every published layout computes what independent implementations of it compute."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile  # noqa: F401  # brings the library that fairseq2 looks for
import torch
from torch import Tensor

from features.feature_signals import BAD_INPUTS, HOP, RATE_HZ, vowels
from features.hubert_material import CHANNELS, LAYERS, PROJECTED, Reference, saved
from svc.errors import UserError
from svc.features.content.hubert import HubertContent, cut_windows, window_share

pytest.importorskip("fairseq2", reason="fairseq2 exists for Linux on x86-64 only")

LAYOUTS = ("bshall", "fairseq", "transformers")


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest.fixture(scope="module")
def files(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {layout: saved(reference.published(layout), layout, folder) for layout in LAYOUTS}


def encoder_of(file: Path, **settings: Any) -> HubertContent:
    return HubertContent(**{"model": str(file), "layer": LAYERS, **settings})


@pytest.fixture(scope="module")
def encoder(files: dict[str, Path]) -> HubertContent:
    return encoder_of(files["bshall"])


def low(seconds: float) -> Tensor:
    """[T] at 16 kHz, something like a voice."""
    return vowels(seconds * 16_000 / RATE_HZ)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize(("layer", "projection"), [(LAYERS, True), (2, True), (1, False)])
    def test_equals_torchaudio(
        self,
        layout: str,
        layer: int,
        projection: bool,
        files: dict[str, Path],
        reference: Reference,
    ) -> None:
        encoder = encoder_of(files[layout], layer=layer, projection=projection)
        content = encoder.encode(low(2.0), 16_000)
        expected = reference.encode(low(2.0), layer, projection, padding=40)
        assert content.shape == expected.shape
        assert encoder.channels == (PROJECTED if projection else CHANNELS)
        torch.testing.assert_close(content, expected, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("layer", [1, LAYERS])
    def test_equals_transformers(self, layer: int, tmp_path: Path) -> None:
        transformers = pytest.importorskip("transformers", reason="the second reference")
        torch.manual_seed(0)
        config = transformers.HubertConfig(
            hidden_size=CHANNELS,
            num_hidden_layers=LAYERS,
            num_attention_heads=CHANNELS // 64,
            intermediate_size=200,
            conv_dim=(16,) * 7,
        )
        model = transformers.HubertModel(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1) * 0.3, std=0.1)
        file = saved(model.state_dict(), "transformers", tmp_path)
        found = encoder_of(file, layer=layer, projection=False, padding_samples=0)
        with torch.inference_mode():
            states = model(low(1.5)[None], output_hidden_states=True).hidden_states
        torch.testing.assert_close(
            found.encode(low(1.5), 16_000), states[layer][0].T, atol=1e-4, rtol=0
        )

    def test_every_spelling_is_read(self, reference: Reference, tmp_path: Path) -> None:
        """A task's prefix, the old spelling of weight norm, and norm folded already."""
        state = reference.published("transformers")
        position = "encoder.pos_conv_embed.conv."
        g, v = (state.pop(f"{position}parametrizations.weight.original{i}") for i in (0, 1))
        old = {**state, f"{position}weight_g": g, f"{position}weight_v": v}
        folded = v * g / v.square().sum(dim=(0, 1), keepdim=True).sqrt()
        expected = reference.encode(low(1.0), LAYERS, True, padding=40)
        for name, spelling in {
            "old": old,
            "folded": {**state, f"{position}weight": folded},
            "prefixed": {"lm_head.weight": g} | {f"hubert.{k}": x for k, x in old.items()},
        }.items():
            (tmp_path / name).mkdir()
            encoder = encoder_of(saved(spelling, "transformers", tmp_path / name))
            torch.testing.assert_close(
                encoder.encode(low(1.0), 16_000), expected, atol=1e-4, rtol=0
            )

    def test_half_precision_files_are_read(self, reference: Reference, tmp_path: Path) -> None:
        state = {name: x.half() for name, x in reference.published("fairseq").items()}
        content = encoder_of(saved(state, "fairseq", tmp_path)).encode(low(1.0), 16_000)
        assert relative(content, reference.encode(low(1.0), LAYERS, True, 40)) < 0.01

    @pytest.mark.slow
    def test_names_and_shapes_are_those_published(self, shared: Path) -> None:
        """So that what is proved above holds for the published files."""
        full = Reference(layers=12, channels=768, width=512, projected=256)
        golden = shared / "golden"
        soft = json.loads((golden / "hubert_soft_layout.json").read_text())["tensors"]
        assert {name: list(x.shape) for name, x in full.published("bshall").items()} == soft
        vec = json.loads((golden / "contentvec_legacy500_layout.json").read_text())
        expected = {name: x["shape"] for name, x in vec["model"].items()}
        expected |= {x["key"]: x["shape"] for x in vec["extra_model_keys"]}
        assert {name: list(x.shape) for name, x in full.published("fairseq").items()} == expected
        names = {x["hf_key"] for x in vec["model"].values()}
        assert set(full.published("transformers")) == names


class TestContract:
    @pytest.mark.parametrize("padding", [40, 0])
    @pytest.mark.parametrize("name", BAD_INPUTS)
    def test_any_input_gives_finite_frames(
        self, name: str, padding: int, files: dict[str, Path]
    ) -> None:
        audio = BAD_INPUTS[name]
        content = encoder_of(files["bshall"], padding_samples=padding).encode(audio, RATE_HZ)
        assert content.dtype == torch.float32
        assert content.shape[0] == PROJECTED
        assert content.shape[1] >= (1 if audio.shape[0] >= HOP else 0)
        assert bool(torch.isfinite(content).all())

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_what_is_not_finite_is_refused(self, bad: float, encoder: HubertContent) -> None:
        with pytest.raises(ValueError, match="not finite"):
            encoder.encode(torch.tensor([0.0, bad] * 500), 16_000)

    def test_two_channels_are_the_callers_fault(self, encoder: HubertContent) -> None:
        with pytest.raises(ValueError, match="expected audio"):
            encoder.encode(torch.zeros(2, 1000), RATE_HZ)

    def test_another_process_agrees_to_the_bit(self, encoder: HubertContent) -> None:
        copy = pickle.loads(pickle.dumps(encoder))
        assert torch.equal(copy.encode(low(1.0), 16_000), encoder.encode(low(1.0), 16_000))
        assert copy.identity() == encoder.identity()

    def test_the_identity_is_the_hash_of_the_file(self, files: dict[str, Path]) -> None:
        hashes = {encoder_of(file).identity()["weights_sha256"] for file in files.values()}
        assert len(hashes) == 3
        assert all(len(digits) == 64 for digits in hashes)

    def test_a_batch_is_its_pieces(self, encoder: HubertContent) -> None:
        pieces = [vowels(seconds, seed) for seed, seconds in enumerate((1.0, 0.0, 2.3, 0.4))]
        for content, piece in zip(encoder.encode_batch(pieces, RATE_HZ), pieces, strict=True):
            assert torch.equal(content, encoder.encode(piece, RATE_HZ))

    def test_padded_batches_agree(self, encoder: HubertContent) -> None:
        """As a GPU takes them: short windows are padded to the longest."""
        network = encoder._network
        with torch.inference_mode():
            rows = [network.convolve(low(seconds)) for seconds in (0.5, 1.7, 1.0)]
            together = network.transform(rows)
            for one, alone in zip(together, rows, strict=True):
                torch.testing.assert_close(one, network.transform([alone])[0], atol=1e-4, rtol=0)

    def test_frames_are_where_the_grid_says(self, files: dict[str, Path]) -> None:
        """Where a burst changes the convolutions' output.

        Half a frame off would be 0.5, the padding forgotten 0.125.
        """
        for padding in (40, 0):
            encoder = encoder_of(files["bshall"], padding_samples=padding)
            audio = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
            moved = []
            for frame in range(4, 46, 3):
                centre = round(16_000 * (encoder.grid.first_s + frame * encoder.grid.step_s))
                louder = audio.clone()
                louder[centre - 80 : centre + 80] *= 3
                change = encoder._convolved(louder) - encoder._convolved(audio)
                power = change.square().sum(dim=1)
                power = (power - power.median()).clamp_min(0)
                moved.append(float((power * torch.arange(len(power))).sum() / power.sum()) - frame)
            assert abs(sum(moved) / len(moved)) < 0.06

    def test_standardised(self, files: dict[str, Path]) -> None:
        content = encoder_of(files["bshall"], standardise=True).encode(
            torch.cat([vowels(2.0), torch.zeros(RATE_HZ)]), RATE_HZ
        )
        assert bool(torch.isfinite(content).all())
        assert float(content[:, :100].mean(dim=1).abs().median()) < 0.3
        assert 0.5 < float(content[:, :100].std(dim=1).median()) < 1.2


class TestLongPieces:
    @pytest.mark.parametrize("frames", [1, 399, 1000, 1001, 1200, 1801, 29_999, 30_000])
    def test_windows_cover_every_frame_once(self, frames: int) -> None:
        total = torch.zeros(frames)
        lengths = []
        for start, stop in cut_windows(frames, 1000):
            total[start:stop] += window_share(start, stop, frames)
            lengths.append(stop - start)
        torch.testing.assert_close(total, torch.ones(frames))
        assert max(lengths) <= 1000
        assert max(lengths) - min(lengths) <= len(lengths)

    def test_nothing_is_cut_out_of_nothing(self) -> None:
        assert cut_windows(0, 1000) == []

    def test_convolutions_of_a_long_piece_are_those_of_one_pass(
        self, encoder: HubertContent, reference: Reference
    ) -> None:
        audio = low(12.0) + 0.2
        with torch.inference_mode():
            expected = reference.model.feature_extractor(audio[None], None)[0][0]
            found = encoder._network.convolve(audio)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    def test_a_window_changes_little_and_leaves_no_seam(self, files: dict[str, Path]) -> None:
        audio = low(30.0)
        whole = encoder_of(files["bshall"], window_s=60).encode(audio, 16_000)
        cut = encoder_of(files["bshall"], window_s=8).encode(audio, 16_000)
        assert cut.shape == whole.shape
        assert relative(cut, whole) < 0.2  # random attention reaches everywhere
        steps, steps_whole = (x.diff(dim=1).norm(dim=0) for x in (cut, whole))
        assert float((steps - steps_whole).abs().max()) < 0.3 * float(steps_whole.mean())


class TestPrecision:
    def test_bf16_stays_within_a_percent(self, files: dict[str, Path]) -> None:
        for settings in ({"projection": True}, {"projection": False, "padding_samples": 0}):
            exact = encoder_of(files["bshall"], **settings).encode(low(3.0), 16_000)
            rounded = encoder_of(files["bshall"], precision="bf16", **settings)
            error = relative(rounded.encode(low(3.0), 16_000), exact)
            assert 1e-5 < error < 0.01


class TestFaults:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"padding_samples": 201}, "padding_samples=201 must be between 0 and 200"),
            ({"window_s": 3}, "window_s=3 must be between 8 and 120"),
            ({"precision": "fp16"}, "precision=fp16 must be fp32 or bf16"),
            ({"batch_size": 0}, "batch_size=0 must be at least 1"),
            ({"layer": 0}, "layer=0 is not in .*layers 1 to 3"),
            ({"layer": 4}, "layer=4 is not in .*layers 1 to 3"),
        ],
    )
    def test_settings_out_of_range_are_refused(
        self, settings: dict[str, Any], said: str, files: dict[str, Path]
    ) -> None:
        with pytest.raises(UserError, match=f"content.{said}"):
            encoder_of(files["bshall"], **settings)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_wrong_tensor_is_named(
        self, layout: str, reference: Reference, tmp_path: Path
    ) -> None:
        state = reference.published(layout)
        lost = next(name for name in state if "conv2." in name or "conv_layers.2." in name)
        odd = next(name for name in state if "1.norm2" in name or "1.final_layer_norm" in name)
        state["encoder.adapter.weight"] = state.pop(lost)
        state[odd] = torch.ones(5)
        with pytest.raises(UserError) as caught:
            encoder_of(saved(state, layout, tmp_path))
        message = str(caught.value)
        assert f"in the {layout} layout" in message
        assert f"{lost.removeprefix('module.')} is missing; expected [32, 32" in message
        assert f"{odd.removeprefix('module.')} is [5]; expected [128]" in message
        assert "encoder.adapter.weight is not part of this network" in message

    def test_a_layer_cut_off_is_named(self, reference: Reference, tmp_path: Path) -> None:
        state = reference.published("fairseq")
        del state["encoder.layers.0.fc1.weight"]
        with pytest.raises(UserError, match=r"does not hold encoder\.layers\.0\.fc1\.weight"):
            encoder_of(saved(state, "fairseq", tmp_path))

    def test_weights_without_projection_are_refused_where_it_is_asked_for(
        self, reference: Reference, tmp_path: Path
    ) -> None:
        state = reference.published("transformers")
        del state["final_proj.weight"]
        with pytest.raises(UserError, match=r"does not hold final_proj\.weight"):
            encoder_of(saved(state, "transformers", tmp_path))

    def test_weights_of_something_else_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none of the known layouts.*found bias, weight"):
            encoder_of(saved(torch.nn.Linear(2, 2).state_dict(), "transformers", tmp_path))

    def test_missing_weights_say_where_to_put_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SVC_CHECKPOINT_DIR", str(tmp_path))
        with pytest.raises(UserError, match=r"(?s)hubert-soft-0d54a1f4\.pt.*content=mfcc"):
            HubertContent(offline=True)

    def test_fairseq2_is_named_where_it_is_missing(
        self, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "fairseq2.models", None)
        with pytest.raises(UserError, match=r"need fairseq2.*Linux.*content=whisper"):
            encoder_of(files["bshall"])


def recipe(names_shapes_sum: list[Any], base_seed: int) -> dict[str, Tensor]:
    """The weights that the golden data were made with, as its README tells."""
    state = {}
    for i, (name, shape, total, _) in enumerate(sorted(names_shapes_sum)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(base_seed + i))
        if x.dim() == 3 and "original" not in name:
            x = x - x.mean(dim=(1, 2), keepdim=True)
        if "norm" in name and name.endswith("weight"):
            x = 1 + 0.1 * x
        elif name.endswith("original0"):
            x = 1 + 0.1 * x.abs()
        elif name.endswith("bias"):
            x = 0.02 * x
        else:
            x = x * {3: 2.0, 2: 0.5}.get(x.dim(), 0.1) / max(1, x[0].numel()) ** 0.5
        assert float(x.double().sum()) == pytest.approx(total, abs=1e-3)
        state[name] = x
    return state


@pytest.mark.slow
class TestGolden:
    def test_hubert_soft(self, shared: Path, tmp_path: Path) -> None:
        golden = torch.load(shared / "golden" / "hubert_soft_recipe.pt", weights_only=True)
        state = recipe(golden["names_shapes_sum"], golden["base_seed"])
        file = saved({f"module.{name}": x for name, x in state.items()}, "bshall", tmp_path)
        audio, expected = golden["audio"][0, 0], golden["units"][0].T
        exact = HubertContent(model=str(file))
        torch.testing.assert_close(exact.encode(audio, 16_000), expected, atol=2e-3, rtol=0)
        rounded = HubertContent(model=str(file), precision="bf16")
        assert relative(rounded.encode(audio, 16_000), expected) < 0.01

    @pytest.mark.parametrize(
        ("layer", "projection", "key"),
        [(9, True, "output_layer9_projected"), (12, False, "output_layer12")],
    )
    def test_contentvec(
        self, layer: int, projection: bool, key: str, shared: Path, tmp_path: Path
    ) -> None:
        golden = torch.load(shared / "golden" / "contentvec_recipe.pt", weights_only=True)
        state = recipe(golden["names_shapes_sum"], golden["base_seed"])
        layout = json.loads((shared / "golden/contentvec_legacy500_layout.json").read_text())
        by_key = {x["hf_key"]: name for name, x in layout["model"].items()}
        file = saved({by_key[name]: x for name, x in state.items()}, "fairseq", tmp_path)
        settings: dict[str, Any] = {
            "model": str(file),
            "layer": layer,
            "projection": projection,
            "padding_samples": 0,
        }
        audio, expected = golden["audio"][0], golden[key][0]
        content = HubertContent("contentvec", **settings).encode(audio, 16_000)
        torch.testing.assert_close(content, expected, atol=2e-3, rtol=0)
        rounded = HubertContent("contentvec", **settings, precision="bf16").encode(audio, 16_000)
        assert relative(rounded, expected) < 0.01
