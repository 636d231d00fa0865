"""Published denoisers under our names."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from svc.checkpoints.diffsvc_layout import translate_denoiser
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


@pytest.mark.parametrize("prefix", ["", "model."])
def test_nothing_published_is_everything_missing(prefix: str) -> None:
    translated = translate_denoiser({}, prefix)
    assert not translated.state_dict
    assert f"{prefix}input_projection.conv.weight" in translated.missing
