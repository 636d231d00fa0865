"""The denoiser against the published one, its masks, and its bad input."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.invariants import assert_every_parameter_learned
from svc.checkpoints.layouts.denoiser import translate_denoiser
from svc.models.denoiser import MelDenoiser, step_embedding
from svc.models.wavenet import WaveNet

GOLDEN = {"diffsvc_denoiser_small": 4, "diffsvc_denoiser_small_v1": 1}
"""Files and their dilation cycles."""


def tiny(layers: int = 3, seed: int = 0) -> MelDenoiser:
    torch.manual_seed(seed)
    denoiser = MelDenoiser(WaveNet(6, 5, 8, layers, 2, out_channels=6)).double().eval()
    torch.nn.init.normal_(denoiser.backbone.output.weight)
    return denoiser


@pytest.fixture(params=GOLDEN)
def golden(request: pytest.FixtureRequest, shared: Path) -> tuple[MelDenoiser, dict[str, Any]]:
    file = torch.load(shared / "golden" / f"{request.param}.pt", weights_only=True)
    settings = file["config"]["diffusion"]["denoiser"]
    denoiser = MelDenoiser(
        WaveNet(
            settings["mel_channels"],
            settings["d_encoder"],
            settings["residual_channels"],
            settings["residual_layers"],
            GOLDEN[request.param],
            out_channels=settings["mel_channels"],
        ),
        linear_bias="mlp.0.linear.bias" in file["denoiser_state_dict"],
    )
    denoiser.load_state_dict(translate_denoiser(file["denoiser_state_dict"]).state_dict)
    return denoiser.eval(), file["denoiser"]


@pytest.mark.parametrize("graph", [True, False], ids=["training", "inference"])
def test_equals_the_published_denoiser(
    golden: tuple[MelDenoiser, dict[str, Any]], graph: bool
) -> None:
    denoiser, case = golden
    with torch.set_grad_enabled(graph):
        prepared = denoiser.prepare(case["cond"])
        for time, expected in (("t", "output"), ("t_float", "output_t_float")):
            output = denoiser(case["x"], case[time].float(), prepared)
            torch.testing.assert_close(output, case[expected], atol=1e-5, rtol=0)


def test_masked_equals_the_published_denoiser_away_from_the_padding(
    golden: tuple[MelDenoiser, dict[str, Any]],
) -> None:
    """Nearer than the reach, the published one sees the biases of padded frames."""
    denoiser, case = golden
    padding = case["mask"]
    real = ~padding[:, None]
    with torch.inference_mode():
        prepared = denoiser.prepare(case["cond"])
        output = denoiser(case["x"], case["t"], prepared, real)
    known = padding.clone()
    known[1, : 40 - denoiser.receptive_frames] = True
    known[0] = True
    assert known[1].sum() > 20
    expected = case["output_masked"]
    for item in range(2):
        torch.testing.assert_close(
            output[item, :, known[item]], expected[item, :, known[item]], atol=1e-5, rtol=0
        )


def test_step_embedding_equals_the_published_one(
    golden: tuple[MelDenoiser, dict[str, Any]],
) -> None:
    denoiser, case = golden
    embedded = step_embedding(case["t"], denoiser.backbone.channels)
    torch.testing.assert_close(embedded, case["step_embedding"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("graph", [True, False], ids=["training", "inference"])
def test_padding_is_as_if_it_were_not_there(graph: bool) -> None:
    denoiser = tiny()
    x, condition = (torch.randn(2, c, 12, dtype=torch.float64) for c in (6, 5))
    time = torch.tensor([3.0, 400.5])
    mask = torch.ones(2, 1, 12, dtype=torch.bool)
    mask[1, :, 7:] = False
    with torch.set_grad_enabled(graph):
        output = denoiser(x, time, denoiser.prepare(condition), mask)
        alone = denoiser(x[1:, :, :7], time[1:], denoiser.prepare(condition[1:, :, :7]))
        whole = denoiser(x, time, denoiser.prepare(condition))
    torch.testing.assert_close(output[1:, :, :7], alone)
    torch.testing.assert_close(output[0], whole[0])
    assert not output[1, :, 7:].any()
    assert not torch.allclose(whole[1, :, :7], alone[0])


def test_training_and_inference_agree_and_items_are_independent() -> None:
    denoiser = tiny(layers=5)
    x, condition = (torch.randn(3, c, 9, dtype=torch.float64) for c in (6, 5))
    time = torch.tensor([0.0, 10.25, 999.0])
    trained = denoiser(x, time, denoiser.prepare(condition))
    with torch.inference_mode():
        prepared = denoiser.prepare(condition)
        kept = x.clone()
        torch.testing.assert_close(denoiser(x, time, prepared), trained.detach())
        torch.testing.assert_close(denoiser(x, time, prepared), trained.detach())
        assert torch.equal(x, kept)
        one = denoiser(x[1:2], time[1:2], denoiser.prepare(condition[1:2]))
    torch.testing.assert_close(one[0], trained[1].detach())


def test_starts_at_zero_and_every_parameter_learns() -> None:
    torch.manual_seed(0)
    denoiser = MelDenoiser(WaveNet(6, 5, 8, 3, 2, out_channels=6))
    assert not denoiser.backbone.output.weight.any()
    torch.nn.init.normal_(denoiser.backbone.output.weight)
    x, condition = torch.randn(2, 6, 9), torch.randn(2, 5, 9)
    denoiser(x, torch.tensor([5.0, 700.0]), denoiser.prepare(condition)).square().sum().backward()
    assert_every_parameter_learned(denoiser)


def test_the_default_size_is_fifty_five_million() -> None:
    with torch.device("meta"):
        denoiser = MelDenoiser(WaveNet(128, 256, 512, 20, 4, out_channels=128))
    assert sum(p.numel() for p in denoiser.parameters()) == 54_994_560


def test_refuses_wrong_shapes() -> None:
    denoiser = tiny()
    x, condition = torch.zeros(2, 6, 9).double(), torch.zeros(2, 5, 9).double()
    prepared, time = denoiser.prepare(condition), torch.zeros(2)
    with pytest.raises(ValueError, match=r"\[2, 6, 9\] must be \[B, 5, N\]"):
        denoiser.prepare(x)
    with pytest.raises(ValueError, match=r"x \[2, 5, 9\] must be \[B, 6, N\]"):
        denoiser(condition, time, prepared)
    with pytest.raises(ValueError, match=r"time \[1\] must be \[B\]"):
        denoiser(x, time[:1], prepared)
    with pytest.raises(ValueError, match=r"N of x \[2, 6, 8\]"):
        denoiser(x[..., :8], time, prepared)
    with pytest.raises(ValueError, match=r"mask \[2, 9\] must be \[2, 1, 9\]"):
        denoiser(x, time, prepared, torch.ones(2, 9))
    with pytest.raises(ValueError, match="must both be the number of mel bins"):
        MelDenoiser(WaveNet(6, 5, 8, 3, 2, out_channels=7))
