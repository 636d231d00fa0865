"""The discriminators against the published ones, and what they promise to the losses."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.invariants import assert_every_parameter_learned
from svc.checkpoints.layouts.discriminators import find_discriminators
from svc.models.discriminators import DiscriminatorOutput, Discriminators
from svc.models.period_discriminator import MultiPeriodDiscriminator
from svc.models.scale_discriminator import MultiScaleDiscriminator


def recipe_weights(golden: dict, kind: str) -> dict[str, Tensor]:
    """The weights by the rule that comes with the golden data."""
    weights = {}
    for index, (name, shape, total) in enumerate(
        entry[:3] for entry in golden[kind]["names_shapes_sum"]
    ):
        rng = torch.Generator().manual_seed(golden["base_seed"][kind] + index)
        x = torch.randn(shape, generator=rng)
        if name.endswith("weight_u") or (name.endswith("weight_v") and len(shape) == 1):
            weights[name] = golden["msd_spectral_uv"][name]
            continue
        if name.endswith("weight_g"):
            weights[name] = 0.5 + 0.25 * x.abs()
        else:
            weights[name] = x * (0.02 if name.endswith("bias") else 0.05)
        assert weights[name].double().sum().item() == pytest.approx(total, abs=1e-3)
    return weights


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict:
    return torch.load(shared / "golden" / "discriminators_recipe.pt", weights_only=True)


@pytest.fixture(scope="module")
def published(golden: dict) -> Discriminators:
    """Both, read as a training checkpoint holds them."""
    state = {
        f"{kind}.{name}": weight
        for kind in ("mpd", "msd")
        for name, weight in recipe_weights(golden, kind).items()
    }
    found = find_discriminators(state)
    assert sorted(found.used) == sorted(state)
    assert not found.notes
    assert found.settings["periods"]["periods"] == list(golden["periods"])
    with torch.device("meta"):
        discriminators = Discriminators(
            MultiPeriodDiscriminator(**found.settings["periods"]),
            MultiScaleDiscriminator(**found.settings["scales"]),
        )
    discriminators.load_state_dict(found.weights, assign=True)
    return discriminators.eval()


def check_against(golden: dict, kind: str, module: nn.Module) -> None:
    real, fake = module(golden["y"]), module(golden["y_hat"])
    expected = golden[kind]
    for results, scores in ((real, expected["scores_real"]), (fake, expected["scores_fake"])):
        for (score, _), wanted in zip(results, scores, strict=True):
            torch.testing.assert_close(score, wanted, atol=1e-5, rtol=1e-4)
    for (_, features), wanted_features in zip(real, expected["fmap_real_mean_std"], strict=True):
        for feature, (mean, std, shape) in zip(features, wanted_features, strict=True):
            assert list(feature.shape) == shape
            assert feature.mean().item() == pytest.approx(mean, abs=1e-5)
            assert feature.std().item() == pytest.approx(std, abs=1e-5)
    feature_loss = sum(
        2 * (a - b).abs().mean()
        for (_, first), (_, second) in zip(real, fake, strict=True)
        for a, b in zip(first, second, strict=True)
    )
    assert float(feature_loss) == pytest.approx(expected["feature_loss"], rel=1e-4)


@torch.inference_mode()
def test_period_discriminator_is_as_published(golden: dict, published: Discriminators) -> None:
    check_against(golden, "mpd", published.periods)


@torch.inference_mode()
def test_scale_discriminator_is_as_published(golden: dict, published: Discriminators) -> None:
    assert published.scales is not None
    check_against(golden, "msd", published.scales)


def test_gpus_compute_the_same_features_of_a_period_in_another_layout() -> None:
    torch.manual_seed(0)
    (judge,) = MultiPeriodDiscriminator(periods=[3], channels=[4, 8, 8]).periods
    audio = torch.randn(2, 1, 301)
    scores, expected = judge(audio)
    padded = torch.nn.functional.pad(audio, (0, 2), mode="reflect").view(2, -1, 3)
    found = judge._on_gpu(padded)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[-1].flatten(1), scores, atol=1e-6, rtol=1e-5)


def test_published_size() -> None:
    with torch.device("meta"):
        discriminators = Discriminators(
            MultiPeriodDiscriminator((3, 5, 7, 11, 17, 23, 37)), MultiScaleDiscriminator()
        )
    assert sum(p.numel() for p in discriminators.parameters()) == pytest.approx(87e6, rel=0.01)


def tiny() -> Discriminators:
    torch.manual_seed(0)
    return Discriminators(
        MultiPeriodDiscriminator((2, 3), channels=(4, 8, 8)),
        MultiScaleDiscriminator(scales=2, width=1 / 32),
    )


def random_audio(batch: int, samples: int = 1000) -> Tensor:
    return torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(batch))


def flat(output: DiscriminatorOutput) -> list[Tensor]:
    return [*output.scores, *(x for features in output.features for x in features)]


def test_every_parameter_and_the_audio_get_gradients() -> None:
    discriminators = tiny()
    audio = random_audio(2).requires_grad_()
    output = discriminators(audio)
    sum(x.square().mean() for x in flat(output)).backward()  # type: ignore[union-attr]
    assert audio.grad.abs().min() > 0  # type: ignore[union-attr]
    assert_every_parameter_learned(discriminators)


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"\[2, 1000\] must be \[B, 1, T\]"):
        tiny()(random_audio(2)[:, 0])
    with pytest.raises(ValueError, match="use a power of two"):
        MultiScaleDiscriminator(width=0.3)
