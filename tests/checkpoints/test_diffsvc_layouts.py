"""DiffSVC as fish-diffusion and diff-svc publish it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from checkpoints.published_material import (
    CHANNELS,
    HIDDEN,
    MEL_BINS,
    State,
    buffers,
    fish_diffsvc,
    original_diffsvc,
)
from diffusion.reference_denoiser import reference_denoiser
from svc.checkpoints.importing import ImportedCheckpoint, import_checkpoint
from svc.checkpoints.layouts.base import LayoutOptions, PublishedModel
from svc.checkpoints.layouts.recognition import recognise
from svc.diffusion.schedule import NoiseSchedule, cosine_schedule, linear_schedule
from svc.errors import UserError
from svc.models.conditioner import Conditioning
from svc.models.diffsvc import DiffSvc

FRAMES = 9


def read(state: State, **options: Any) -> PublishedModel:
    return recognise(state.keys()).read(state, LayoutOptions(**options))


def imported(state: State, folder: Path, **options: Any) -> ImportedCheckpoint:
    torch.save({"state_dict": state, "epoch": 3}, folder / "model.ckpt")
    found = import_checkpoint(folder / "model.ckpt", options or None)
    assert isinstance(found.module, DiffSvc)
    assert not found.module.training
    return found


def inputs(content: int, speaker: Tensor, seed: int = 0) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)
    f0_hz = 60 * 2 ** (4.5 * torch.rand(len(speaker), FRAMES, generator=generator))
    return Conditioning(
        content=torch.randn(len(speaker), content, FRAMES, generator=generator),
        f0_hz=f0_hz,
        voiced=f0_hz > 100,
        energy=torch.rand(len(speaker), FRAMES, generator=generator),
        speaker=speaker,
        key_shift_semitones=torch.tensor([0.0, -7.0])[: len(speaker)],
    )


def golden_inputs(golden: dict[str, Any], speaker: Tensor | None = None) -> Conditioning:
    given = golden["inputs"]
    f0_hz = given["pitches"][..., 0]
    return Conditioning(
        content=given["contents"].mT,
        f0_hz=f0_hz,
        voiced=f0_hz > 0,
        energy=given["energy"][..., 0],
        speaker=given["speakers"] if speaker is None else speaker,
        key_shift_semitones=given["pitch_shift"][:, 0],
    )


class TestGolden:
    """Against outputs of fish-diffusion."""

    @torch.no_grad()
    def test_the_condition_is_that_of_the_published_model(self, shared: Path) -> None:
        path = shared / "golden" / "diffsvc_lightning_small.pt"
        golden = torch.load(path, weights_only=True)
        found = import_checkpoint(path)
        assert found.kind == "diffsvc_fish"
        assert {*found.report.used, *found.report.left_over} == set(golden["state_dict"])
        assert not found.report.missing
        conditioner = found.module.conditioner
        expected = golden["outputs"]
        torch.testing.assert_close(
            conditioner(golden_inputs(golden)).mT, expected["features"], atol=1e-4, rtol=0
        )
        mix = torch.tensor([[0.3, 0.0, 0.7]]).expand(2, -1)
        torch.testing.assert_close(
            conditioner(golden_inputs(golden, mix)).mT,
            expected["features_speaker_mix_03_07"],
            atol=1e-4,
            rtol=0,
        )
        bare = import_checkpoint(path, {"use_energy": False, "use_key_shift": False})
        torch.testing.assert_close(
            bare.module.conditioner(golden_inputs(golden)).mT,
            expected["features_no_shift_no_energy"],
            atol=1e-4,
            rtol=0,
        )
        left = set(bare.report.left_over) - set(found.report.left_over)
        assert left == {
            f"model.{encoder}_encoder.projection.{kind}"
            for encoder in ("pitch_shift", "energy")
            for kind in ("weight", "bias")
        }

    @pytest.mark.parametrize("version", ["diffsvc_denoiser_small", "diffsvc_denoiser_small_v1"])
    @torch.no_grad()
    def test_a_denoiser_of_either_version_predicts_the_same(
        self, version: str, shared: Path, tmp_path: Path
    ) -> None:
        golden = torch.load(shared / "golden" / f"{version}.pt", weights_only=True)
        around = fish_diffsvc(hidden=32)
        state = {name: w for name, w in around.items() if ".diffusion." not in name}
        state |= {
            f"model.diffusion.{name}": w for name, w in golden["diffusion_state_dict"].items()
        }
        denoiser = imported(state, tmp_path).module.denoiser
        given = golden["denoiser"]
        for time, output in (("t", "output"), ("t_float", "output_t_float")):
            ours = denoiser(given["x"], given[time], denoiser.prepare(given["cond"]))
            torch.testing.assert_close(ours, given[output], atol=1e-4, rtol=0)


class TestFish:
    """fish-diffusion's, of other sizes."""

    @pytest.mark.parametrize("encoding", ["scale", "log"])
    @torch.no_grad()
    def test_the_condition_is_the_sum_of_the_encoders(self, encoding: str, tmp_path: Path) -> None:
        state = fish_diffsvc()
        module = imported(state, tmp_path, pitch_encoding=encoding).module
        given = inputs(5, torch.tensor([1, 0]))

        def linear(name: str, x: Tensor) -> Tensor:
            layer = f"model.{name}_encoder.projection"
            return x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]

        pitch = given.f0_hz.log2() if encoding == "log" else (given.f0_hz - 50) / 1050
        pitch = pitch.clamp(0, 1) if encoding == "scale" else pitch
        expected = (
            linear("text", given.content.mT)
            + linear("pitch", pitch[..., None])
            + linear("energy", given.energy[..., None])
            + linear("pitch_shift", given.key_shift_semitones[:, None])[:, None]
            + state["model.speaker_encoder.embedding.weight"][given.speaker][:, None]
        )
        torch.testing.assert_close(module.conditioner(given).mT, expected, atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_the_denoiser_of_any_size_is_the_published_one(self, tmp_path: Path) -> None:
        state = fish_diffsvc(channels=16, layers=5, mel_bins=24, hidden=10)
        prefix = "model.diffusion.denoise_fn."
        weights = {n.removeprefix(prefix): w for n, w in state.items() if n.startswith(prefix)}
        denoiser = imported(state, tmp_path).module.denoiser
        x, condition = torch.randn(2, 24, FRAMES), torch.randn(2, 10, FRAMES)
        time = torch.tensor([3.0, 77.5])
        expected = reference_denoiser(weights, condition, 4)(x, time)
        torch.testing.assert_close(
            denoiser(x, time, denoiser.prepare(condition)), expected, atol=1e-4, rtol=1e-4
        )

    def test_the_pitch_is_log_with_a_key_shift_and_scale_without(self) -> None:
        state = fish_diffsvc()
        assert conditioner_of(read(state))["pitch_encoding"] == "log"
        for kind in ("weight", "bias"):
            del state[f"model.pitch_shift_encoder.projection.{kind}"]
        assert conditioner_of(read(state))["pitch_encoding"] == "scale"
        assert conditioner_of(read(state, pitch_encoding="log"))["pitch_encoding"] == "log"
        with pytest.raises(UserError, match="pitch_encoding=coarse does not fit"):
            read(state, pitch_encoding="coarse")

    def test_a_table_of_pitches_and_content_as_it_is(self) -> None:
        """As in fish-diffusion's conversions of diff-svc's models."""
        state = fish_diffsvc()
        for encoder in ("text", "pitch", "pitch_shift", "energy"):
            for kind in ("weight", "bias"):
                del state[f"model.{encoder}_encoder.projection.{kind}"]
        table = state["model.pitch_encoder.embedding.weight"] = torch.randn(300, HIDDEN)
        model = read(state)
        settings = conditioner_of(model)
        assert (settings["pitch_encoding"], settings["pitch_bounds_hz"]) == (
            "coarse",
            [40.0, 1100.0],
        )
        assert settings["content_projection"] is False
        assert not settings["use_energy"]
        assert not settings["use_key_shift"]
        assert model.content_channels == HIDDEN
        assert torch.equal(model.generator["conditioner.pitch.weight"], table)

    def test_two_linear_layers_in_a_row_are_one(self) -> None:
        state = fish_diffsvc()
        x, name = torch.randn(3, 5), "model.text_encoder.projection."
        for kind in ("weight", "bias"):
            del state[name + kind]
        state |= {f"{name}0.weight": torch.randn(4, 5), f"{name}0.bias": torch.randn(4)}
        state |= {f"{name}1.weight": torch.randn(HIDDEN, 4), f"{name}1.bias": torch.randn(HIDDEN)}
        expected = (x @ state[f"{name}0.weight"].T + state[f"{name}0.bias"]) @ state[
            f"{name}1.weight"
        ].T + state[f"{name}1.bias"]
        ours = read(state).generator
        weight, bias = (ours[f"conditioner.content.{kind}"] for kind in ("weight", "bias"))
        torch.testing.assert_close(x @ weight[..., 0].T + bias, expected)

    def test_an_encoder_that_was_never_trained_is_left_out_and_said_so(self) -> None:
        state = fish_diffsvc()
        state["model.energy_encoder.projection.bias"].zero_()
        model = read(state)
        assert conditioner_of(model)["use_energy"] is False
        assert "model.energy_encoder.projection.weight" in model.report.left_over
        assert any("energy_encoder is left out" in note for note in model.report.notes)
        assert conditioner_of(read(state, use_energy=True))["use_energy"] is True

    def test_the_moving_average_is_preferred(self) -> None:
        state = {**fish_diffsvc(), **fish_diffsvc(root="ema_model.", seed=7)}
        model = read(state)
        name = "speaker_encoder.embedding.weight"
        assert torch.equal(
            model.generator["conditioner.speaker.weight"], state[f"ema_model.{name}"]
        )
        assert all(used.startswith("ema_model.") for used in model.report.used)
        assert {n for n in state if n.startswith("model.")} <= set(model.report.left_over)
        assert "moving average" in model.report.notes[0]

    def test_a_file_without_speakers_gets_one_and_says_so(self) -> None:
        state = fish_diffsvc()
        del state["model.speaker_encoder.embedding.weight"]
        model = read(state)
        assert model.report.missing == ("model.speaker_encoder.embedding.weight",)
        assert model.speakers == ("speaker_0",)
        assert not model.generator["conditioner.speaker.weight"].any()

    def test_speakers_are_named_in_the_order_of_the_table(self) -> None:
        assert read(fish_diffsvc(), speakers=("anna", "bert")).speakers == ("anna", "bert")
        for names in (("anna",), ("anna", "anna"), ("anna", "bert", "carl")):
            with pytest.raises(UserError, match="must name the 2 speakers"):
                read(fish_diffsvc(), speakers=names)


def conditioner_of(model: PublishedModel) -> dict[str, Any]:
    settings: dict[str, Any] = model.settings["arch"]["generator"]["conditioner"]
    return settings


class TestOriginal:
    """diff-svc's own."""

    @pytest.mark.parametrize("speakers", [None, 3])
    @torch.no_grad()
    def test_the_condition_is_content_pitch_and_speaker(
        self, speakers: int | None, tmp_path: Path
    ) -> None:
        state = original_diffsvc(speakers=speakers)
        found = imported(state, tmp_path)
        assert found.kind == "diffsvc_original"
        assert {*found.report.used, *found.report.left_over} == set(state)
        assert set(found.report.left_over) == {
            *("model.alphas_cumprod", "model.fs2.mel_out.weight", "model.fs2.mel_out.bias"),
            "model.fs2.pitch_predictor.linear.weight",
        }
        given = inputs(HIDDEN, torch.tensor([0, (speakers or 1) - 1]))
        mels = 1127 * torch.log(1 + given.f0_hz / 700)
        low, high = (1127 * math.log(1 + hz / 700) for hz in (40, 1100))
        rows = ((mels - low) * 254 / (high - low) + 1).clamp(1, 255)
        expected = given.content.mT + state["model.fs2.pitch_embed.weight"][(rows + 0.5).long()]
        if speakers is not None:
            expected = expected + state["model.fs2.spk_embed_proj.weight"][given.speaker][:, None]
        ours = found.module.conditioner(given).mT
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)

    @torch.no_grad()
    def test_the_denoiser_is_the_published_one(self, tmp_path: Path) -> None:
        state = original_diffsvc(layers=6)
        prefix = "model.denoise_fn."
        wrapped = {}
        for name, weight in state.items():
            if name.startswith(prefix):
                module, _, kind = name.removeprefix(prefix).rpartition(".")
                module = module.replace("dilated_conv", "conv_layer")
                wrapper = "linear" if "mlp" in module or "diffusion_" in module else "conv"
                wrapped[f"{module}.{wrapper}.{kind}"] = weight
        denoiser = imported(state, tmp_path).module.denoiser
        x, condition = torch.randn(1, MEL_BINS, FRAMES), torch.randn(1, HIDDEN, FRAMES)
        time = torch.tensor([42.0])
        expected = reference_denoiser(wrapped, condition, 4)(x, time)
        ours = denoiser(x, time, denoiser.prepare(condition))
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize(
        ("name", "shape", "said"),
        [
            ("fs2.encoder.layers.0.op.self_attn.in_proj_weight", (2, 2), "no_fs2"),
            ("fs2.spk_embed_proj.bias", (HIDDEN,), "vectors of speakers"),
            ("fs2.energy_embed.weight", (256, HIDDEN), "options.use_energy=false"),
        ],
    )
    def test_what_cannot_be_computed_is_refused(
        self, name: str, shape: tuple[int, ...], said: str
    ) -> None:
        state = original_diffsvc(speakers=2)
        state[f"model.{name}"] = torch.randn(shape)
        with pytest.raises(UserError, match=said):
            read(state)

    def test_models_at_24_khz_are_refused(self) -> None:
        with pytest.raises(UserError, match="24 kHz"):
            read(original_diffsvc(mel_bins=80))


def with_buffers(**changes: Any) -> State:
    changed = {f"model.diffusion.{name}": w for name, w in buffers(**changes).items()}
    return {**fish_diffsvc(), **changed}


def test_log10_bounds_become_nepers() -> None:
    """By the published factor; each bin may have its own."""
    minimum = torch.linspace(-5, -4, MEL_BINS)[None, None]
    maximum = torch.linspace(-1, 0.5, MEL_BINS)[None, None]
    weights = read(with_buffers(minimum=minimum, maximum=maximum)).generator
    torch.testing.assert_close(weights["scaling.minimum"], minimum[0, 0] * 2.30259)
    torch.testing.assert_close(weights["scaling.maximum"], maximum[0, 0] * 2.30259)
    forced = read(with_buffers(minimum=minimum, maximum=maximum), mel_log="natural").generator
    assert torch.equal(forced["scaling.minimum"], minimum[0, 0])


def test_natural_bounds_stay() -> None:
    state = with_buffers(minimum=torch.full((1, 1, 1), -11.5), maximum=torch.full((1, 1, 1), 2.0))
    weights = read(state).generator
    assert weights["scaling.minimum"].tolist() == [-11.5]
    assert weights["scaling.maximum"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("schedule", "choice"),
    [
        (linear_schedule(1000, 0.01), "linear"),
        (linear_schedule(50, 0.06), "linear"),
        (cosine_schedule(1000), "cosine"),
    ],
)
def test_the_schedule_is_told_by_its_betas(
    schedule: NoiseSchedule, choice: str, tmp_path: Path
) -> None:
    state = with_buffers(schedule=schedule)
    assert read(state).choices["noise_schedule"] == choice
    module = imported(state, tmp_path).module
    torch.testing.assert_close(module.schedule.betas, schedule.betas, rtol=1e-6, atol=0)


def test_another_schedule_is_refused() -> None:
    state = fish_diffsvc()
    state["model.diffusion.betas"] = torch.linspace(0.01, 0.2, 100) ** 2
    with pytest.raises(UserError, match="neither a straight line nor"):
        read(state)


def test_dilations_are_those_of_the_version_unless_told() -> None:
    def cycle(state: State, **options: Any) -> int:
        denoiser = read(state, **options).settings["arch"]["generator"]["denoiser"]
        found: int = denoiser["backbone"]["dilation_cycle"]
        return found

    assert cycle(fish_diffsvc()) == 4
    assert cycle(fish_diffsvc(linear_bias=False)) == 1
    assert cycle(fish_diffsvc(), dilation_cycle=2) == 2


@pytest.mark.parametrize(
    ("name", "weight", "said"),
    [
        ("diffusion.denoise_fn.mlp.0.linear.weight", None, "mlp.0.linear.weight is missing"),
        ("diffusion.spec_min", None, "spec_min is missing"),
        ("diffusion.spec_min", torch.zeros(1, 1, 7), "one for each of 20 bins"),
        ("diffusion.spec_max", torch.full((1, 1, 1), -9.0), "must lie below"),
        (
            "diffusion.denoise_fn.residual_layers.1.conv_layer.conv.weight",
            torch.zeros(2 * CHANNELS, CHANNELS, 5),
            r"conv.weight is \[24, 12, 5\]; expected \[24, 12, 3\]",
        ),
        ("text_encoder.projection.weight", torch.zeros(HIDDEN + 1, 5), "does not give 8 channels"),
        ("speaker_encoder.embedding.weight", torch.zeros(2), "does not give 8 channels"),
    ],
)
def test_what_is_missing_or_misshapen_is_named(name: str, weight: Tensor | None, said: str) -> None:
    state = fish_diffsvc()
    if weight is None:
        del state[f"model.{name}"]
    else:
        state[f"model.{name}"] = weight
    with pytest.raises(UserError, match=said):
        read(state)


@torch.no_grad()
def test_the_vocoder_inside_is_built(shared: Path, tmp_path: Path) -> None:
    vocoder = torch.load(shared / "golden" / "nsf_hifigan_small.pt", weights_only=True)
    state = fish_diffsvc(mel_bins=128)
    state |= {f"vocoder.model.{name}": w for name, w in vocoder["generator"].items()}
    state["vocoder.mel_transform.window"] = torch.ones(2048)
    found = imported(state, tmp_path)
    alone = import_checkpoint(shared / "golden" / "nsf_hifigan_published_layout" / "model").module
    inside = found.module.vocoder.state_dict()
    assert inside.keys() == alone.state_dict().keys()
    assert all(torch.equal(inside[name], w) for name, w in alone.state_dict().items())
    assert "vocoder.mel_transform.window" in found.report.left_over
    assert f"vocoder.model.{next(iter(vocoder['generator']))}" in found.report.used
    with pytest.raises(UserError, match="renders mels of 128 bins, but its model makes 20"):
        read({**fish_diffsvc(), **{n: w for n, w in state.items() if n.startswith("vocoder.")}})
