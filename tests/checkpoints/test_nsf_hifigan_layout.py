"""Published NSF-HiFiGAN vocoders: sizes out of shapes, names, waves, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from checkpoints.published_spelling import (
    Spelling,
    published_discriminators,
    published_generator,
)
from svc.audio.mel import MelSpectrogram
from svc.checkpoints.layouts.base import LayoutOptions, PublishedModel
from svc.checkpoints.layouts.nsf_hifigan import NsfHifiGanLayout, translate_generator
from svc.checkpoints.layouts.published_weights import unfolded
from svc.checkpoints.safe_reading import read_state_dict
from svc.config.composition import composed
from svc.config.instantiate import build
from svc.errors import UserError
from svc.models.discriminators import Discriminators
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.period_discriminator import MultiPeriodDiscriminator
from svc.models.scale_discriminator import MultiScaleDiscriminator

LAYOUT = NsfHifiGanLayout()
LOG_10 = 2.30259
"""The factor between the mels of two families of models, as published."""


def generator(seed: int = 0, **sizes: Any) -> NsfHifiGan:
    defaults = {
        "mel_bins": 20,
        "initial_channels": 32,
        "upsample_rates": (8, 8, 4, 2),
        "upsample_kernels": (16, 16, 8, 4),
        "resblock_kernels": (3, 7),
        "resblock_dilations": ((1, 3, 5),) * 2,
        "harmonics": 4,
        "f0_upsampling": "zeroed",
    }
    torch.manual_seed(seed)
    return NsfHifiGan(**{**defaults, **sizes}).eval()  # type: ignore[arg-type]


def config_json(folder: Path, **values: Any) -> LayoutOptions:
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return LayoutOptions(vocoder_config=str(path))


def built(model: PublishedModel) -> NsfHifiGan:
    """What svc-train would build for it, with its weights."""
    config = composed("train", model.choices, model.settings)
    module: NsfHifiGan = build(config["arch"]["generator"], trusted=False)
    module.load_state_dict(dict(model.generator))
    if model.discriminator:
        judges = build(config["arch"]["discriminator"], trusted=False)
        judges.load_state_dict(dict(model.discriminator))
    return module.eval()


def assert_same_wave(one: NsfHifiGan, other: NsfHifiGan, atol: float = 1e-5) -> None:
    rng = torch.Generator().manual_seed(2)
    mel = torch.randn(1, one.mel_bins, 9, generator=rng)
    f0_hz = 100 + 300 * torch.rand(1, 9, generator=rng)
    voiced = torch.rand(1, 9, generator=rng) > 0.3
    with torch.inference_mode():
        waves = [module(mel, f0_hz, voiced, rng=5) for module in (one, other)]
    assert waves[0].std() > 1e-3
    torch.testing.assert_close(*waves, atol=atol, rtol=0)


def golden_model(shared: Path, name: str, with_config: bool) -> PublishedModel:
    folder = shared / "golden" / "nsf_hifigan_published_layout"
    options = LayoutOptions(vocoder_config=str(folder / "config.json") if with_config else None)
    state = read_state_dict(folder / name)
    assert LAYOUT.matches(state)
    model = LAYOUT.read(state, options)
    assert sorted(model.report.used) == sorted(state)
    assert model.report.missing == model.report.left_over == ()
    return model


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("name", ["model", "model_lightning.ckpt"])
def test_published_files_sing_as_published(shared: Path, name: str, with_config: bool) -> None:
    io = torch.load(shared / "golden" / "nsf_hifigan_small.pt", weights_only=True)["io"]
    model = golden_model(shared, name, with_config)
    assert bool(model.report.notes) != with_config
    vocoder, f0_hz = built(model), io["f0"]
    for version in ("zero_noise", "seeded"):
        source = io[version]["har_source"]
        with torch.inference_mode():
            wave = vocoder(io["mel"], f0_hz, f0_hz > 0, source=source)
        torch.testing.assert_close(wave, io[version]["wave"], atol=1e-4, rtol=0)
    folded = io["zero_noise_no_weight_norm"]
    vocoder.fold_weight_norm()
    with torch.inference_mode():
        wave = vocoder(io["mel"], f0_hz, f0_hz > 0, source=io["zero_noise"]["har_source"])
    wanted = folded["wave"] if isinstance(folded, dict) else io["zero_noise"]["wave"]
    torch.testing.assert_close(wave, wanted, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def wrapper(shared: Path) -> dict[str, Any]:
    return torch.load(shared / "golden" / "nsf_hifigan_wrapper.pt", weights_only=True)


def test_mels_are_those_that_the_published_wrapper_computes(
    shared: Path, wrapper: dict[str, Any]
) -> None:
    model = golden_model(shared, "model", with_config=True)
    spec = build(composed("train", model.choices, model.settings)["audio"])
    stored = wrapper["wav2spec"]
    mel = MelSpectrogram(spec)(stored["wav"])[0]
    torch.testing.assert_close(mel, stored["mel_natural"], atol=1e-3, rtol=0)
    log_10 = stored["mel_log10"] * LOG_10
    torch.testing.assert_close(mel, log_10, atol=1e-3, rtol=0)


@pytest.mark.parametrize("semitones", [0, 3])
@pytest.mark.parametrize("logarithm", ["natural_log", "log10"])
def test_waves_are_those_of_the_published_wrapper(
    shared: Path, wrapper: dict[str, Any], logarithm: str, semitones: int
) -> None:
    """Phases and noise are zero there, and key shifts move F0 alone."""
    vocoder = built(golden_model(shared, "model", with_config=True))
    stored = wrapper["spec2wav"][logarithm]
    small = torch.load(shared / "golden" / "nsf_hifigan_small.pt", weights_only=True)
    f0_hz = small["io"]["f0"] * 2 ** (semitones / 12)
    mel = stored["mel"][None] * (LOG_10 if logarithm == "log10" else 1.0)
    sines = vocoder.sine_source
    samples = f0_hz.shape[1] * 512
    with torch.inference_mode():
        source = sines.excite(
            *sines.upsample(f0_hz, f0_hz > 0), torch.zeros(1, 9), torch.zeros(1, 9, samples)
        )
        wave = vocoder(mel, f0_hz, f0_hz > 0, source=source)[0, 0]
    wanted = stored["wave_keyshift_plus3" if semitones else "wave"]
    torch.testing.assert_close(wave, wanted, atol=1e-4, rtol=0)


OWN_SIZES = {
    "four stages": {},
    "wide kernels": {"upsample_kernels": (16, 12, 10, 2), "resblock_kernels": (5, 9)},
    "one block": {"resblock_kernels": (11,), "resblock_dilations": ((1, 3, 5),)},
    "published plan": {
        "upsample_rates": (8, 8, 2, 2, 2),
        "upsample_kernels": (16, 16, 8, 2, 2),
        "mel_bins": 128,
        "harmonics": 8,
    },
}


@pytest.mark.parametrize("spelling", ["old", "new", "folded"])
@pytest.mark.parametrize("size", OWN_SIZES)
def test_any_size_is_found_in_the_shapes_under_every_spelling(
    size: str, spelling: Spelling
) -> None:
    original = generator(**OWN_SIZES[size])
    state = published_generator(original, spelling)
    model = LAYOUT.read(state, LayoutOptions())
    assert sorted(model.report.used) == sorted(state)
    assert model.report.missing == model.report.left_over == ()
    assert_same_wave(built(model), original)


def test_hop_dilations_and_mel_come_from_the_configuration(tmp_path: Path) -> None:
    dilations = [[1, 2], [1, 4]]
    original = generator(
        upsample_rates=(5, 3, 4, 4), upsample_kernels=(11, 7, 8, 8), resblock_dilations=dilations,
        sample_rate_hz=24_000,
    )  # fmt: skip
    state = published_generator(original)
    with pytest.raises(UserError, match=r"hop of 512 samples does not fit .*vocoder_config=FILE"):
        LAYOUT.read(state, LayoutOptions())
    options = config_json(
        tmp_path, hop_size=240, sampling_rate=24_000, win_size=960, n_fft=960, num_mels=20,
        fmin=0, fmax=None, upsample_rates=[5, 3, 4, 4], resblock_dilation_sizes=dilations,
    )  # fmt: skip
    model = LAYOUT.read(state, options)
    assert not model.report.notes
    assert model.settings["audio"] == {
        "sample_rate_hz": 24_000,
        "hop_samples": 240,
        "window_samples": 960,
        "mel_bins": 20,
        "mel_min_hz": 0.0,
        "mel_max_hz": 12_000.0,
    }
    assert_same_wave(built(model), original)


def test_half_precision_is_read_as_single() -> None:
    original = generator().half().float()
    state = {n: w.half() for n, w in published_generator(original).items()}
    model = LAYOUT.read(state, LayoutOptions())
    assert all(weight.dtype == torch.float32 for weight in model.generator.values())
    assert_same_wave(built(model), original)


def test_weight_that_is_zero_survives_unfolding() -> None:
    weight = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    weight[1] = 0
    length, direction = unfolded(weight)
    torch.testing.assert_close(torch._weight_norm(direction, length, 0), weight)
    assert length.shape == (4, 1, 1)


@pytest.mark.parametrize("prefix", ["", "generator.", "model.", "vocoder.model."])
def test_what_else_lies_in_the_file_is_left_over(prefix: str) -> None:
    original = generator()
    state = {f"{prefix}{name}": w for name, w in published_generator(original).items()}
    more = {"mel_transforms.0.window": torch.zeros(4), f"{prefix}extra.weight": torch.zeros(2)}
    assert LAYOUT.matches(state)
    model = LAYOUT.read(state | more, LayoutOptions())
    assert sorted(model.report.left_over) == sorted(more)
    assert sorted(model.report.used) == sorted(state)
    translated = translate_generator(state | more, prefix)
    assert translated.report.left_over == tuple(n for n in more if n.startswith(prefix))


def test_the_vocoder_inside_another_model_is_not_the_model() -> None:
    state = {f"vocoder.model.{name}": w for name, w in published_generator(generator()).items()}
    assert LAYOUT.matches(state)
    assert not LAYOUT.matches([*state, "model.diffusion.denoise_fn.mlp.0.linear.weight"])
    assert not LAYOUT.matches(["generator.conv_pre.weight_v", "generator.conv_post.bias"])


@pytest.mark.parametrize("periods", [(2, 3, 5, 7, 11), (3, 5, 7, 11, 17, 23, 37)])
@pytest.mark.parametrize("prefix", ["", "discriminator."])
def test_discriminators_come_along(prefix: str, periods: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    judges = Discriminators(
        MultiPeriodDiscriminator(periods, channels=(4, 6)),
        MultiScaleDiscriminator(scales=2, width=1 / 32),
    )
    state = {f"generator.{n}": w for n, w in published_generator(generator()).items()}
    state |= {f"{prefix}{name}": w for name, w in published_discriminators(judges).items()}
    model = LAYOUT.read(state, LayoutOptions())
    assert model.report.left_over == ()
    assert sorted(model.report.used) == sorted(state)
    config = composed("train", model.choices, model.settings)
    loaded = build(config["arch"]["discriminator"], trusted=False)
    loaded.load_state_dict(dict(model.discriminator))
    audio = torch.randn(1, 1, 900, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores, wanted = (module.eval()(audio).scores for module in (loaded, judges))
    for score, expected in zip(scores, wanted, strict=True):
        torch.testing.assert_close(score, expected)


@pytest.mark.parametrize(("count", "given"), [(3, None), (3, [2, 3, 5])])
def test_periods_that_nobody_knows_leave_the_discriminators_out(
    tmp_path: Path, count: int, given: list[int] | None
) -> None:
    judges = Discriminators(MultiPeriodDiscriminator((2, 3, 5)[:count], channels=(4,)))
    state = published_generator(generator()) | published_discriminators(judges)
    options = LayoutOptions()
    if given is not None:
        options = config_json(tmp_path, discriminator_periods=given, num_mels=20)
    model = LAYOUT.read(state, options)
    if given is None:
        assert not model.discriminator
        assert any("periods are not known" in note for note in model.report.notes)
        assert set(model.report.left_over) == set(published_discriminators(judges))
    else:
        assert model.settings["arch"]["discriminator"]["periods"]["periods"] == given
        assert model.report.left_over == ()


def without(name: str) -> dict[str, Tensor]:
    state = published_generator(generator())
    del state[name]
    return state


def renamed(old: str, new: str) -> dict[str, Tensor]:
    state = published_generator(generator())
    return {name.replace(old, new): weight for name, weight in state.items()}


def of_another_shape() -> dict[str, Tensor]:
    state = published_generator(generator())
    state["resblocks.3.convs2.1.bias"] = torch.zeros(7)
    return state


def plain_hifigan() -> dict[str, Tensor]:
    state = published_generator(generator())
    return {n: w for n, w in state.items() if not n.startswith(("m_source", "noise_convs"))}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (without("ups.1.weight_v"), "lacks ups.1|ups.1.weight_v is missing"),
        (without("resblocks.2.convs1.0.weight_g"), r"resblocks.2.convs1.0.weight_g is missing"),
        (without("conv_post.bias"), r"conv_post.bias is missing"),
        (of_another_shape(), r"resblocks.3.convs2.1.bias is \[7\], expected \[8\]"),
        (renamed("convs1", "convs"), "of type '2'"),
        (plain_hifigan(), "plain HiFi-GAN"),
        (plain_hifigan() | {"source_conv.weight": torch.zeros(8, 1, 1)}, "mini-NSF"),
        (
            {n: w for n, w in published_generator(generator()).items() if "blocks.7." not in n},
            "do not fit each other",
        ),
    ],
    ids=["direction", "length", "bias", "shape", "type 2", "no source", "mini", "cut short"],
)
def test_refuses_what_it_cannot_run(state: dict[str, Tensor], reason: str) -> None:
    assert LAYOUT.matches(state)
    with pytest.raises(UserError, match=reason):
        LAYOUT.read(state, LayoutOptions())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mini_nsf": True}, "mini_nsf=true is another network"),
        ({"resblock": "2"}, "resblock='2' is not supported"),
        ({"num_mels": 80}, "num_mels=80, and the weights take 20"),
        ({"upsample_rates": [8, 8, 2, 2, 2]}, "for another vocoder|belongs to another vocoder"),
        ({"resblock_dilation_sizes": [[1, 3]]}, "belongs to another vocoder"),
        ({"n_fft": 4096, "win_size": 2048}, "as long as the FFT"),
        ({"hop_size": "wide"}, "cannot be read as a vocoder's configuration"),
    ],
)
def test_refuses_configurations_of_other_networks(
    tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        LAYOUT.read(published_generator(generator()), config_json(tmp_path, **values))


def test_says_which_configuration_cannot_be_read(tmp_path: Path) -> None:
    state = published_generator(generator())
    for text in ("{", "[1]", "\x00\x01", "[" * 5000):
        path = tmp_path / "config.json"
        path.write_text(text)
        with pytest.raises(UserError, match=r"config\.json cannot be read"):
            LAYOUT.read(state, LayoutOptions(vocoder_config=str(path)))
    with pytest.raises(UserError, match=r"nowhere\.json cannot be read"):
        LAYOUT.read(state, LayoutOptions(vocoder_config=str(tmp_path / "nowhere.json")))


def test_noise_inside_is_left_out_and_said(tmp_path: Path) -> None:
    options = config_json(tmp_path, noise_sigma=0.1, mini_nsf=False, pc_aug=True, num_mels=20)
    model = LAYOUT.read(published_generator(generator()), options)
    assert any("noise_sigma=0.1" in note for note in model.report.notes)
