"""Published denoisers under our names."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from svc.checkpoints.layouts.denoiser import DenoiserSize, translate_denoiser
from svc.models.denoiser import MelDenoiser
from svc.models.wavenet import WaveNet


def published(shared: Path) -> dict[str, Tensor]:
    file = torch.load(shared / "golden" / "diffsvc_denoiser_small.pt", weights_only=True)
    weights: dict[str, Tensor] = file["denoiser_state_dict"]
    return weights


def test_every_weight_is_used_and_none_is_missing(shared: Path) -> None:
    weights = published(shared)
    translated = translate_denoiser(weights)
    assert sorted(translated.used) == sorted(weights)
    assert translated.missing == translated.left_over == ()
    denoiser = MelDenoiser(WaveNet(24, 32, 32, 6, 4, out_channels=24))
    denoiser.load_state_dict(translated.state_dict)
    theirs = weights["residual_layers.4.conditioner_projection.conv.weight"]
    assert torch.equal(denoiser.backbone.condition.weight[4 * 64 : 5 * 64], theirs)


def test_says_what_is_missing_and_what_is_left_over(shared: Path) -> None:
    weights = {f"model.denoise_fn.{name}": w for name, w in published(shared).items()}
    gone = "model.denoise_fn.residual_layers.2.diffusion_projection.linear.weight"
    del weights[gone]
    weights["model.denoise_fn.extra.weight"] = torch.zeros(1)
    weights["model.speaker_encoder.weight"] = torch.zeros(1)
    translated = translate_denoiser(weights, prefix="model.denoise_fn.")
    assert translated.missing == (gone,)
    assert translated.left_over == ("model.denoise_fn.extra.weight",)
    assert "step_projection.weight" not in translated.state_dict
    assert len(translated.used) == len(weights) - 2


def without_wrappers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that the original diff-svc gives a fish-diffusion denoiser."""
    return {
        name.replace("conv_layer.conv", "dilated_conv")
        .replace(".conv.", ".")
        .replace(".linear.", "."): weight
        for name, weight in weights.items()
    }


def test_the_spelling_without_wrappers_is_the_same_denoiser(shared: Path) -> None:
    weights = published(shared)
    plain = without_wrappers(weights)
    assert "residual_layers.3.dilated_conv.weight" in plain
    translated, expected = translate_denoiser(plain), translate_denoiser(weights)
    assert translated.missing == translated.left_over == translated.misshapen == ()
    assert sorted(translated.used) == sorted(plain)
    assert translated.size == expected.size == DenoiserSize(24, 32, 32, 6, 3, True)
    for name, weight in expected.state_dict.items():
        assert torch.equal(translated.state_dict[name], weight)
    del plain["residual_layers.1.dilated_conv.bias"]
    assert translate_denoiser(plain).missing == ("residual_layers.1.dilated_conv.bias",)


def test_a_weight_of_another_shape_is_named_with_both(shared: Path) -> None:
    weights = published(shared)
    weights["residual_layers.5.output_projection.conv.weight"] = torch.zeros(64, 30, 1)
    weights["mlp.2.linear.bias"] = torch.zeros(())
    translated = translate_denoiser(weights)
    assert translated.misshapen == (
        "mlp.2.linear.bias is []; expected [32]",
        "residual_layers.5.output_projection.conv.weight is [64, 30, 1]; expected [64, 32, 1]",
    )
    assert "backbone.blocks.5.output.weight" not in translated.state_dict


@pytest.mark.parametrize("prefix", ["", "model."])
def test_nothing_published_is_everything_missing(prefix: str) -> None:
    translated = translate_denoiser({}, prefix)
    assert not translated.state_dict
    assert f"{prefix}input_projection.conv.weight" in translated.missing
