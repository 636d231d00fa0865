"""fish-diffusion's HiFiSinger: features and waves as published, any size, what may be missing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from checkpoints.published_spelling import published_discriminators, published_generator
from svc.checkpoints import import_checkpoint
from svc.checkpoints.layouts.base import LayoutOptions, PublishedModel
from svc.checkpoints.layouts.hifisinger_fish import FishHifiSinger
from svc.checkpoints.layouts.nsf_hifigan import NsfHifiGanLayout
from svc.checkpoints.safe_reading import read_state_dict
from svc.config.composition import composed
from svc.config.instantiate import build
from svc.errors import UserError
from svc.models.conditioner import Conditioner, Conditioning
from svc.models.discriminators import Discriminators
from svc.models.feature_fuser import FeatureFuser
from svc.models.hifisinger import HifiSinger
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.period_discriminator import MultiPeriodDiscriminator
from svc.models.scale_discriminator import MultiScaleDiscriminator

LAYOUT = FishHifiSinger()


def built(model: PublishedModel) -> HifiSinger:
    """What svc-train would build for it, with its weights."""
    config = composed("train", model.choices, model.settings)
    known = {"content_channels": model.content_channels, "speakers": len(model.speakers)}
    singer: HifiSinger = build(config["arch"]["generator"], trusted=False, conditioner=known)
    singer.load_state_dict(dict(model.generator))
    return singer.eval()


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    path = shared / "golden" / "hifisinger_v1_small.pt"
    return {
        **torch.load(path, weights_only=True),
        "state": read_state_dict(path),
    }


def inputs_of(golden: dict[str, Any]) -> Conditioning:
    stored = golden["inputs"]
    f0_hz = stored["pitches"][..., 0]
    return Conditioning(
        content=stored["contents"].transpose(1, 2),
        f0_hz=f0_hz,
        voiced=f0_hz > 0,
        energy=stored["energy"][..., 0],
        speaker=stored["speakers"],
        key_shift_semitones=stored["pitch_shift"][:, 0],
    )


def sung(golden: dict[str, Any], singer: HifiSinger, source: Tensor) -> tuple[Tensor, Tensor]:
    """Features [B, C, N] and wave, with features of padding at zero as the original has them."""
    conditioning = inputs_of(golden)
    padding = golden["outputs"]["src_masks"][:, None]
    with torch.inference_mode():
        features = singer.decoder_input(conditioning) * ~padding
        wave = singer.decoder(features, conditioning.f0_hz, conditioning.voiced, source=source)
    return features, wave


@pytest.mark.parametrize("version", ["zero_noise", "seeded"])
def test_sings_as_published(golden: dict[str, Any], version: str) -> None:
    model = LAYOUT.read(golden["state"], LayoutOptions())
    stored = golden["outputs"][version]
    features, wave = sung(golden, built(model), stored["har_source"])
    wanted = golden["outputs"]["features"].transpose(1, 2)
    torch.testing.assert_close(features, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(wave, stored["wave"], atol=1e-4, rtol=0)


def test_sings_as_published_from_its_own_source(golden: dict[str, Any]) -> None:
    singer = built(LAYOUT.read(golden["state"], LayoutOptions()))
    stored, conditioning = golden["outputs"]["seeded"], inputs_of(golden)
    initial_phase = stored["rand_ini"].clone()
    initial_phase[:, 0] = 0
    sines = singer.decoder.sine_source
    source = sines.excite(
        *sines.upsample(conditioning.f0_hz, conditioning.voiced),
        initial_phase,
        stored["sine_noise"].transpose(1, 2),
    )
    torch.testing.assert_close(source, stored["har_source"], atol=1e-5, rtol=0)


def test_sings_as_published_without_energy_and_key_shift(golden: dict[str, Any]) -> None:
    options = LayoutOptions(use_energy=False, use_key_shift=False)
    model = LAYOUT.read(golden["state"], options)
    source = golden["outputs"]["zero_noise"]["har_source"]
    _, wave = sung(golden, built(model), source)
    wanted = golden["outputs"]["zero_noise_no_energy_no_shift"]["wave"]
    torch.testing.assert_close(wave, wanted, atol=1e-4, rtol=0)
    assert sorted(model.report.left_over) == [
        f"generator.{encoder}.projection.{part}"
        for encoder in ("energy_encoder", "pitch_shift_encoder")
        for part in ("bias", "weight")
    ]


def test_the_imported_module_sings_as_published_with_folded_weights(
    golden: dict[str, Any], shared: Path
) -> None:
    found = import_checkpoint(shared / "golden" / "hifisinger_v1_small.pt")
    assert found.kind == LAYOUT.kind
    assert not found.module.training
    assert not any("parametrizations" in name for name in found.module.state_dict())
    assert sorted(found.report.used) == sorted(golden["state"])
    assert not found.report.missing
    assert not found.report.left_over
    stored = golden["outputs"]["seeded"]
    _, wave = sung(golden, found.module, stored["har_source"])
    torch.testing.assert_close(wave, stored["wave"], atol=1e-4, rtol=0)


def test_every_name_of_the_published_file_is_used(golden: dict[str, Any]) -> None:
    model = LAYOUT.read(golden["state"], LayoutOptions(speakers=("ada", "ben", "cem")))
    assert LAYOUT.matches(golden["state"])
    assert not NsfHifiGanLayout().matches(golden["state"])
    assert sorted(model.report.used) == sorted(golden["state"])
    assert model.report.missing == model.report.left_over == ()
    assert model.speakers == ("ada", "ben", "cem")
    assert model.content_channels == 48
    config = composed("train", model.choices, model.settings)
    with torch.device("meta"):
        judges = build(config["arch"]["discriminator"], trusted=False)
    judges.load_state_dict(dict(model.discriminator), assign=True)
    assert sum(p.numel() for p in judges.parameters()) == pytest.approx(87e6, rel=0.01)


def singer(channels: int = 12, content: int = 7, **conditioner: Any) -> HifiSinger:
    """Of sizes that no golden file has."""
    torch.manual_seed(3)
    made = HifiSinger(
        Conditioner(
            content_channels=content,
            speakers=4,
            channels=channels,
            kernel=1,
            pitch_encoding="none",
            **{"energy_encoding": "linear", "key_shift_encoding": "semitones"} | conditioner,
        ),
        FeatureFuser(channels),
        NsfHifiGan(
            mel_bins=channels,
            initial_channels=16,
            upsample_rates=(8, 8, 8),
            upsample_kernels=(16, 12, 8),
            resblock_kernels=(3, 5),
            resblock_dilations=((1, 3, 5),) * 2,
            harmonics=3,
            f0_upsampling="continuous",
        ),
        level_from_energy=False,
        mel_bottleneck=False,
    )
    return made.eval()


def judges() -> Discriminators:
    return Discriminators(
        MultiPeriodDiscriminator((3, 5, 7, 11, 17, 23, 37), channels=(4, 6)),
        MultiScaleDiscriminator(scales=3, width=1 / 32),
    )


ENCODERS = {
    "content": "text_encoder.projection",
    "energy": "energy_encoder.projection",
    "key_shift": "pitch_shift_encoder.projection",
    "speaker": "speaker_encoder.embedding",
}


def published(module: HifiSinger, root: str = "generator.") -> dict[str, Tensor]:
    state = {}
    for name, weight in module.state_dict().items():
        part, _, rest = name.partition(".")
        if part == "conditioner":
            layer, _, kind = rest.partition(".")
            state[f"{root}{ENCODERS[layer]}.{kind}"] = (
                weight[..., 0] if weight.ndim == 3 else weight
            )
        elif part == "backbone":
            layer, _, kind = rest.partition(".")
            number = {"hidden": 0, "output": 2}[layer]
            state[f"{root}feature_fuser.{number}.{kind}"] = (
                weight[..., 0] if weight.ndim == 3 else weight
            )
    decoder = published_generator(module.decoder)
    return state | {f"{root}encoder.{name}": weight for name, weight in decoder.items()}


def conditioning(content: int = 7, frames: int = 6) -> Conditioning:
    rng = torch.Generator().manual_seed(4)
    return Conditioning(
        content=torch.randn(2, content, frames, generator=rng),
        f0_hz=100 + 300 * torch.rand(2, frames, generator=rng),
        voiced=torch.rand(2, frames, generator=rng) > 0.4,
        energy=torch.rand(2, frames, generator=rng),
        speaker=torch.tensor([0, 3]),
        key_shift_semitones=torch.tensor([0.0, -4.5]),
    )


def assert_same(one: HifiSinger, other: HifiSinger, content: int = 7) -> None:
    inputs = conditioning(content)
    with torch.inference_mode():
        waves = [module(inputs, rng=7).audio for module in (one, other)]
    assert waves[0].std() > 1e-3
    torch.testing.assert_close(*waves, atol=1e-5, rtol=0)


@pytest.mark.parametrize("root", ["generator.", ""])
@pytest.mark.parametrize(
    "conditioner", [{}, {"use_energy": False}, {"use_energy": False, "use_key_shift": False}]
)
def test_any_size_sings_the_same_after_a_round_trip(
    root: str, conditioner: dict[str, bool]
) -> None:
    original = singer(**conditioner)
    state = published(original, root) | published_discriminators(judges())
    state["mel_transform.mel_scale.fb"] = torch.zeros(3, 2)
    model = LAYOUT.read(state, LayoutOptions())
    assert model.report.missing == ()
    assert model.report.left_over == ("mel_transform.mel_scale.fb",)
    assert len(model.discriminator) == len(judges().state_dict())
    assert model.speakers == ("speaker_0", "speaker_1", "speaker_2", "speaker_3")
    assert_same(built(model), original)


def test_content_that_is_not_projected_and_a_neck() -> None:
    plain = singer(channels=8, content=8, content_projection=False)
    assert_same(built(LAYOUT.read(published(plain), LayoutOptions())), plain, content=8)
    original = singer()
    state = published(original)
    name = "generator.text_encoder.projection"
    weight, bias = state.pop(f"{name}.weight"), state.pop(f"{name}.bias")
    inner = torch.randn(7, 7, generator=torch.Generator().manual_seed(0)) + 3 * torch.eye(7)
    outer = weight @ torch.linalg.inv(inner)
    shift = torch.arange(7.0)
    state |= {
        f"{name}.0.weight": inner,
        f"{name}.0.bias": shift,
        f"{name}.1.weight": outer,
        f"{name}.1.bias": bias - outer @ shift,
    }
    model = LAYOUT.read(state, LayoutOptions())
    assert sorted(model.report.used) == sorted(state)
    with_neck, wanted = built(model).conditioner.content, original.conditioner.content
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(with_neck.state_dict()[name], value, atol=1e-4, rtol=0)


def test_the_file_to_continue_from_has_no_speakers() -> None:
    original = singer()
    state = published(original)
    name = "generator.speaker_encoder.embedding.weight"
    del state[name]
    model = LAYOUT.read(state, LayoutOptions())
    assert model.report.missing == (name,)
    assert sorted(model.report.used) == sorted(state)
    assert model.speakers == ("speaker_0",)
    assert not model.generator["conditioner.speaker.weight"].any()
    assert built(model).conditioner.speaker.num_embeddings == 1


@pytest.mark.parametrize("encoder", ["energy", "key_shift"])
def test_an_encoder_that_was_never_trained_is_left_out_unless_asked_for(encoder: str) -> None:
    original = singer()
    with torch.no_grad():
        getattr(original.conditioner, encoder).bias.zero_()
    state = published(original)
    model = LAYOUT.read(state, LayoutOptions())
    names = {f"generator.{ENCODERS[encoder]}.{part}" for part in ("weight", "bias")}
    assert set(model.report.left_over) == names
    assert any("never trained" in note for note in model.report.notes)
    assert getattr(built(model).conditioner, encoder) is None
    forced = LAYOUT.read(state, LayoutOptions(**{f"use_{encoder}": True}))
    assert forced.report.left_over == ()
    assert_same(built(forced), original)


def changed(**weights: Tensor | None) -> dict[str, Tensor]:
    """Of the original, with other weights; None for none."""
    state = published(singer())
    for name, weight in weights.items():
        full = next(n for n in state if n.endswith(name.replace("__", ".")))
        if weight is None:
            del state[full]
        else:
            state[full] = weight
    return state


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (changed(feature_fuser__2__bias=None), "generator.feature_fuser.2.bias is missing"),
        (
            changed(feature_fuser__0__weight=torch.zeros(12, 9)),
            r"generator.feature_fuser.0.weight is \[12, 9\], expected \[12, 12, 1\]",
        ),
        (changed(text_encoder__projection__weight=torch.zeros(9, 7)), "12 channels"),
        (changed(conv_post__weight_g=None), "generator.encoder.conv_post.weight_g is missing"),
        (changed(conv_pre__weight_v=torch.zeros(16, 5, 7)), "makes 12"),
        (
            {n: w for n, w in published(singer()).items() if ".encoder." not in n}
            | {"generator.encoder.template_conv.weight": torch.zeros(1)},
            r"no NSF-HiFiGAN generator .*template_conv",
        ),
    ],
    ids=["missing", "shape", "encoder", "decoder", "widths", "RefineGAN"],
)
def test_refuses_what_is_not_whole(state: dict[str, Tensor], reason: str) -> None:
    assert LAYOUT.matches(state)
    with pytest.raises(UserError, match=reason):
        LAYOUT.read(state, LayoutOptions())
