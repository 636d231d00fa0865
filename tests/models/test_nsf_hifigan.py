"""The generator against the published one, its plan, and its reach in time."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.invariants import assert_every_parameter_learned
from svc.checkpoints.layouts.nsf_hifigan import translate_generator
from svc.models import chunked
from svc.models.nsf_hifigan import NsfHifiGan


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict:
    return torch.load(shared / "golden" / "nsf_hifigan_small.pt", weights_only=True)


@pytest.fixture(scope="module")
def published(golden: dict) -> NsfHifiGan:
    translated = translate_generator(golden["generator"])
    generator = NsfHifiGan(**translated.settings, f0_upsampling="zeroed")
    generator.load_state_dict(translated.weights)
    return generator.eval()


def tiny(**overrides: object) -> NsfHifiGan:
    settings = {
        "mel_bins": 8,
        "initial_channels": 16,
        "upsample_rates": (8, 4),
        "upsample_kernels": (16, 8),
        "resblock_kernels": (3, 5),
        "resblock_dilations": ((1, 3), (1, 3)),
    }
    torch.manual_seed(0)
    return NsfHifiGan(**(settings | overrides)).eval()  # type: ignore[arg-type]


def random_inputs(frames: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    mel = torch.randn(batch, 8, frames, generator=rng)
    f0_hz = 100 + 100 * torch.rand(batch, frames, generator=rng)
    return mel, f0_hz, torch.rand(batch, frames, generator=rng) > 0.3


@pytest.mark.parametrize("version", ["zero_noise", "seeded"])
@torch.inference_mode()
def test_wave_is_as_published(golden: dict, published: NsfHifiGan, version: str) -> None:
    io = golden["io"]
    wave = published(io["mel"], io["f0"], io["f0"] > 0, source=io[version]["har_source"])
    torch.testing.assert_close(wave, io[version]["wave"], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_wave_from_f0_is_as_published(golden: dict, published: NsfHifiGan) -> None:
    io = golden["io"]
    sines, f0_hz = published.sine_source, io["f0"]
    initial_phase = io["seeded"]["rand_ini"].clone()
    initial_phase[:, 0] = 0
    source = sines.excite(
        *sines.upsample(f0_hz, f0_hz > 0),
        initial_phase,
        io["seeded"]["sine_noise"].transpose(1, 2),
    )
    wave = published(io["mel"], f0_hz, f0_hz > 0, source=source)
    torch.testing.assert_close(wave, io["seeded"]["wave"], atol=1e-4, rtol=0)


def test_default_is_the_published_size() -> None:
    parameters = sum(p.numel() for p in NsfHifiGan().parameters())
    assert 14.0e6 < parameters < 14.4e6


@torch.inference_mode()
def test_folding_changes_nothing_but_the_names() -> None:
    generator, inputs = tiny(), random_inputs(6)
    before = generator(*inputs, rng=0)
    generator.fold_weight_norm()
    assert not any("parametrizations" in name for name in generator.state_dict())
    torch.testing.assert_close(generator(*inputs, rng=0), before, atol=1e-6, rtol=0)


def test_no_frame_beyond_the_stated_reach_has_influence() -> None:
    generator = tiny().double()
    reach = generator.receptive_frames
    frames = 2 * reach + 1
    mel, f0_hz, voiced = random_inputs(frames)
    mel = mel.double().requires_grad_()
    source = torch.zeros(1, 1, frames * generator.hop_samples, dtype=torch.float64)
    middle = slice(reach * generator.hop_samples, (reach + 1) * generator.hop_samples)
    generator(mel, f0_hz, voiced, source=source)[..., middle].square().sum().backward()
    touched = mel.grad.abs().sum(1)[0].nonzero().flatten()  # type: ignore[union-attr]
    assert touched.min() >= 0
    assert touched.max() <= 2 * reach
    # The bound is close: with two frames less it would be broken.
    assert touched.numel() > 2 * (reach - 2)


@torch.inference_mode()
def test_pieces_join_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, (mel, f0_hz, voiced) = tiny(), random_inputs(40, batch=2)
    source = 0.1 * torch.randn(2, 1, 40 * 32, generator=torch.Generator().manual_seed(2))
    pieces = []
    stage = generator.stages[0]
    stage.register_forward_hook(lambda module, inputs, output: pieces.append(output.shape[-1]))
    whole = generator(mel, f0_hz, voiced, source=source)
    monkeypatch.setattr(chunked, "CHUNK_VALUES", 0)
    monkeypatch.setattr(chunked, "SHORTEST_CHUNK", 48)
    joined = generator(mel, f0_hz, voiced, source=source)
    assert whole.std() > 0.01
    assert pieces[0] == 320
    assert len(pieces) > 5
    torch.testing.assert_close(joined, whole, atol=1e-6, rtol=0)


def test_every_parameter_learns() -> None:
    generator = tiny()
    generator(*random_inputs(4, batch=2), rng=0).square().mean().backward()
    assert_every_parameter_learned(generator)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"upsample_kernels": (16,)}, "equally long"),
        ({"upsample_kernels": (16, 7)}, "kernel 7 does not fit rate 4"),
        ({"initial_channels": 18}, "divisible by 4"),
        ({"resblock_kernels": (3, 4)}, "must be odd"),
        ({"resblock_dilations": ((1, 3),)}, "equally long"),
    ],
)
def test_refuses_plans_that_do_not_fit(overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**overrides)


def test_says_what_is_wrong_with_the_inputs() -> None:
    generator, (mel, f0_hz, voiced) = tiny(), random_inputs(6)
    with pytest.raises(ValueError, match=r"mel \[1, 7, 6\] must be \[B, 8, N\]"):
        generator(mel[:, :7], f0_hz, voiced)
    with pytest.raises(ValueError, match=r"\[1, 1, 160\] must be \[1, 1, 192\]"):
        generator(mel, f0_hz[:, :5], voiced[:, :5])
