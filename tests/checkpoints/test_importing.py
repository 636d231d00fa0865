"""Any checkpoint as a module."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile  # noqa: F401  # brings the library that fairseq2 looks for
import torch
import yaml

from checkpoints.published_material import HIDDEN, fish_diffsvc, original_diffsvc
from features.hubert_material import PROJECTED, Reference
from svc.checkpoints import import_checkpoint
from svc.checkpoints.layouts.base import LayoutOptions
from svc.checkpoints.layouts.training_config import options_of_config
from svc.errors import UserError
from tiny_checkpoint import checkpoint

__all__ = ["checkpoint"]


@pytest.fixture(scope="module")
def hubert() -> Reference:
    return Reference()


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("layout", "kind", "options"),
    [
        ("bshall", "hubert_soft", None),
        ("fairseq", "contentvec", None),
        ("transformers", "contentvec", None),
        ("transformers", "hubert_base", {"content": "hubert_base"}),
        ("fairseq", "contentvec_768", {"content": "contentvec_768"}),
    ],
)
@torch.no_grad()
def test_a_hubert_gives_what_the_reference_gives(
    layout: str, kind: str, options: dict[str, Any] | None, hubert: Reference, tmp_path: Path
) -> None:
    pytest.importorskip("fairseq2", reason="fairseq2 exists for Linux on x86-64 only")
    published = hubert.published(layout)
    found = import_checkpoint(saved(published, tmp_path / "hubert.pt"), options)
    assert found.kind == kind
    assert not found.module.training
    assert {*found.report.used, *found.report.left_over} == set(published)
    assert not set(found.report.used) & set(found.report.left_over)
    node = found.config["content"]
    audio = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    expected = hubert.encode(audio, node["layer"], node["projection"], node["padding_samples"])
    assert node["projection"] == (expected.shape[0] == PROJECTED)
    ours = found.module(audio[None])[0].T
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    assert ours.std() > 0.01


@torch.no_grad()
def test_rmvpe_gives_the_published_salience(shared: Path) -> None:
    path = shared / "golden" / "rmvpe_small.pt"
    golden = torch.load(path, weights_only=True)
    found = import_checkpoint(path)
    assert found.kind == "rmvpe"
    assert found.config["pitch"]["model"] == str(path)
    mel, frames = golden["mel"], golden["mel"].shape[-1]
    padded = torch.nn.functional.pad(mel, (0, -frames % 32), mode="reflect")
    ours = found.module(padded)[:, :frames]
    torch.testing.assert_close(ours, golden["salience"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("file", ["model", "model_lightning.ckpt"])
@torch.no_grad()
def test_a_vocoder_renders_what_the_original_renders(file: str, shared: Path) -> None:
    golden = torch.load(shared / "golden" / "nsf_hifigan_small.pt", weights_only=True)
    found = import_checkpoint(shared / "golden" / "nsf_hifigan_published_layout" / file)
    assert found.kind == "nsf_hifigan"
    assert not any("parametrizations" in name for name in found.module.state_dict())
    prefix = "" if file == "model" else "generator."
    assert set(found.report.used) == {prefix + name for name in golden["generator"]}
    assert not found.report.missing
    given, expected = golden["io"], golden["io"]["zero_noise"]
    waves = {name: w for name, w in expected.items() if "wav" in name or name == "output"}
    source = expected["har_source"]
    ours = found.module(given["mel"], given["f0"], given["f0"] > 0, source=source)
    (wave,) = waves.values()
    torch.testing.assert_close(ours.flatten(), wave.flatten(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["hifisinger", "diffsvc"])
def test_our_own_files_are_of_kind_svc(name: str, checkpoint: Callable[..., Path]) -> None:
    found = import_checkpoint(checkpoint(name))
    assert found.kind == "svc"
    assert found.config["arch"]["generator"]["_target_"].startswith("svc.models.")
    assert not found.module.training
    assert found.report.used
    assert not found.report.missing


class TestConfig:
    """What the file does not say."""

    def test_an_unknown_option_is_refused_with_the_nearest(self, tmp_path: Path) -> None:
        path = saved(fish_diffsvc(), tmp_path / "model.ckpt")
        with pytest.raises(UserError, match="did you mean dilation_cycle"):
            import_checkpoint(path, {"dilatation_cycle": 4})

    def test_the_configuration_of_the_trainer_is_understood(self, tmp_path: Path) -> None:
        config = {
            "model": {
                "type": "DiffSVC",
                "diffusion": {"denoiser": {"dilation_cycle": 2}},
                "pitch_encoder": {"preprocessing": {"_target_": "fish.utils.pitch.pitch_to_scale"}},
            },
            "preprocessing": {
                "text_features_extractor": {"type": "ContentVec"},
                "pitch_extractor": {"type": "CrepePitchExtractor"},
            },
            "speaker_mapping": {"bert": 1, "anna": 0},
        }
        expected = LayoutOptions(
            content="contentvec",
            pitch="crepe",
            speakers=("anna", "bert"),
            dilation_cycle=2,
            pitch_encoding="scale",
        )
        assert options_of_config(config) == expected
        path = saved(fish_diffsvc(), tmp_path / "model.ckpt")
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        inside = saved({"state_dict": fish_diffsvc(), "config": config}, tmp_path / "inside.ckpt")
        for found in (
            import_checkpoint(path, config),
            import_checkpoint(path, tmp_path / "config.yaml"),
            import_checkpoint(inside),
        ):
            generator = found.config["arch"]["generator"]
            assert generator["denoiser"]["backbone"]["dilation_cycle"] == 2
            assert generator["conditioner"]["pitch_encoding"] == "scale"
            assert found.config["pitch"]["_target_"].endswith("CrepePitch")

    def test_a_configuration_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        path = saved(fish_diffsvc(), tmp_path / "model.ckpt")
        (tmp_path / "bad.yaml").write_text("a: [", encoding="utf-8")
        for name in ("bad.yaml", "nowhere.yaml"):
            with pytest.raises(UserError, match=name):
                import_checkpoint(path, tmp_path / name)

    def test_a_configuration_runs_nothing(self, tmp_path: Path) -> None:
        path = saved(fish_diffsvc(), tmp_path / "model.ckpt")
        hostile = f"model: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]"
        (tmp_path / "config.yaml").write_text(hostile, encoding="utf-8")
        with pytest.raises(UserError, match=r"config\.yaml"):
            import_checkpoint(path, tmp_path / "config.yaml")
        assert not (tmp_path / "made").exists()


class TestRefusals:
    """Every message names the file and what is wrong."""

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_no_numbers(self, value: float, tmp_path: Path) -> None:
        state = original_diffsvc()
        name = "model.denoise_fn.skip_projection.weight"
        state[name][0, 0, 0] = value
        with pytest.raises(UserError, match=f"NaN or infinite values in 1 of .*{name}"):
            import_checkpoint(saved(state, tmp_path / "model.ckpt"))

    def test_a_weight_of_another_shape(self, tmp_path: Path) -> None:
        state = original_diffsvc()
        state["model.fs2.pitch_embed.weight"] = torch.zeros(300, HIDDEN + 1)
        with pytest.raises(UserError, match=r"model\.ckpt .*pitch_embed.weight is \[300, 9\]"):
            import_checkpoint(saved(state, tmp_path / "model.ckpt"))

    def test_no_known_layout_names_the_nearest(self, tmp_path: Path) -> None:
        state = {
            "model.fs2.pitch_embed.weight": torch.ones(3),
            "model.spec_min": torch.ones(1),
            "model.fs2.mel_out.bias": torch.ones(1),
        }
        with pytest.raises(UserError, match=r"no layout that svc knows[^$]*Nearest is diffsvc_ori"):
            import_checkpoint(saved(state, tmp_path / "model.ckpt"))

    def test_models_of_other_kinds_are_called_by_name(self, tmp_path: Path) -> None:
        names = ("enc_p.pre.weight", "dec.conv_pre.weight", "flow.flows.0.bias")
        state = {name: torch.ones(2) for name in names}
        with pytest.raises(UserError, match="so-vits-svc or RVC"):
            import_checkpoint(saved(state, tmp_path / "G_1000.pth"))

    def test_another_denoiser_is_refused(self, tmp_path: Path) -> None:
        state = {
            name.replace("residual_layers", "blocks"): weight
            for name, weight in fish_diffsvc().items()
        }
        with pytest.raises(UserError, match="not the published WaveNet"):
            import_checkpoint(saved(state, tmp_path / "model.ckpt"))
