"""DiffSVC: its loss, its sampling, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import torch
from torch import Tensor

from models.invariants import assert_every_parameter_learned
from models.mel_singers import (
    HOP_SAMPLES,
    conditioning,
    random_mel,
    tiny_diffsvc,
    tiny_vocoder,
)
from svc.checkpoints.layouts.denoiser import translate_denoiser
from svc.diffusion.samplers.ddim import Ddim
from svc.diffusion.samplers.ddpm import Ddpm
from svc.diffusion.samplers.euler import Euler
from svc.diffusion.samplers.unipc import UniPc
from svc.diffusion.schedule import Prediction, linear_schedule
from svc.errors import UserError
from svc.models.conditioner import Conditioner
from svc.models.denoiser import MelDenoiser
from svc.models.diffsvc import DiffSvc
from svc.models.mel_scaling import MelScaling
from svc.models.wavenet import WaveNet

FULL = torch.tensor([12, 12])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def published(shared: Path) -> tuple[DiffSvc, dict[str, Any]]:
    file = torch.load(shared / "golden" / "diffsvc_denoiser_small.pt", weights_only=True)
    denoiser = MelDenoiser(WaveNet(24, 32, 32, 6, 4, out_channels=24))
    denoiser.load_state_dict(translate_denoiser(file["denoiser_state_dict"]).state_dict)
    singer = DiffSvc(
        Conditioner(content_channels=5, speakers=1, channels=32, use_energy=False),
        denoiser,
        MelScaling(-5.0, 0.0),
        linear_schedule(max_beta=0.01),
        tiny_vocoder(24),
        level_from_energy=False,
    )
    return singer, file


@pytest.mark.parametrize("name", ["l1", "l2", "smooth_l1"])
def test_loss_equals_the_published_one(
    published: tuple[DiffSvc, dict[str, Any]], name: Literal["l1", "l2", "smooth_l1"]
) -> None:
    singer, file = published
    singer.distance = name
    case = file["p_losses"]
    loss = singer.loss_at(case["x_start"], case["t"], case["noise"], case["cond"], None)
    theirs = "smoothed-l1" if name == "smooth_l1" else name
    assert loss.item() == pytest.approx(case["losses_by_name"][theirs], abs=2e-6)


def test_mel_equals_the_published_one(
    published: tuple[DiffSvc, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    singer, file = published
    case = file["sampling"]["unipc_20step"]
    features = file["features"].transpose(1, 2)
    monkeypatch.setattr(singer.conditioner, "forward", lambda _: features)
    sampler = UniPc(steps=20, spacing="time", denoise_to_zero=False)
    mel = singer.predict_mel(conditioning(1, 40), sampler, noise=case["initial_noise"])
    expected = case["output_mel_denormed"].transpose(1, 2)
    torch.testing.assert_close(mel, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_every_parameter_but_the_vocoder_learns(prediction: Prediction) -> None:
    singer = tiny_diffsvc(prediction=prediction)
    loss = singer.loss(conditioning(2, 12), random_mel(2, 12), FULL, rng())
    loss.total.backward()
    assert loss.parts["diffusion"].item() == loss.total.item()
    assert not loss.parts["diffusion"].requires_grad
    assert_every_parameter_learned(singer, but="vocoder.")


def test_the_vocoder_stays_in_evaluation_and_can_be_replaced() -> None:
    singer = tiny_diffsvc().train()
    assert singer.denoiser.training
    assert not singer.vocoder.training  # type: ignore[attr-defined]
    other = tiny_vocoder()
    singer.replace_vocoder(other)
    assert singer.vocoder is other
    assert not any(p.requires_grad for p in other.parameters())
    assert not other.training
    with pytest.raises(ValueError, match="mel_bins=11 must be the denoiser's 10"):
        singer.replace_vocoder(tiny_vocoder(11))


def test_a_perfect_denoiser_has_no_loss() -> None:
    """Each prediction is told apart from the others, and held against what it claims to be."""
    data, noise = torch.randn(2, 10, 6, generator=rng()), torch.randn(2, 10, 6, generator=rng(1))
    time = torch.tensor([3, 700])
    for prediction in get_args(Prediction):
        singer = tiny_diffsvc(prediction=prediction, loss="l2")
        v = singer.schedule.v_target(data, time, noise)
        truth = {"noise": noise, "v": v, "data": data}[prediction]

        class Perfect(MelDenoiser):
            def forward(self, *_: object, truth: Tensor = truth) -> Tensor:  # type: ignore[override]
                return truth

        singer.denoiser.__class__ = Perfect
        sequence = torch.zeros(2, 8, 6)
        assert singer.loss_at(data, time, noise, sequence, None) == 0
        noisy = singer.schedule.noised(data, time, noise)
        told = singer.evaluate(noisy, time.float(), sequence)
        torch.testing.assert_close(told, noise, atol=2e-5, rtol=0)


def test_padding_changes_neither_loss_nor_gradients() -> None:
    singer = tiny_diffsvc()
    inputs, mel = conditioning(1, 9), random_mel(1, 9)
    alone, padded = [], []
    generator = rng()
    time = torch.randint(1000, (1,), generator=generator)
    noise = torch.randn(1, 10, 9, generator=generator)

    def gradients(found: list[Tensor], total: Tensor) -> None:
        singer.zero_grad()
        total.backward()
        found += [total.detach()]
        found += [p.grad.clone() for p in singer.parameters() if p.grad is not None]

    sequence = singer.conditioner(inputs)
    gradients(alone, singer.loss_at(singer.scaled(mel, inputs), time, noise, sequence, None))
    longer = torch.nn.functional.pad
    wide = replace(
        inputs,
        content=longer(inputs.content, (0, 4), value=9.0),
        f0_hz=longer(inputs.f0_hz, (0, 4), value=50.0),
        voiced=longer(inputs.voiced, (0, 4)),
        energy=longer(inputs.energy, (0, 4), value=0.5),
    )

    def as_drawn(shape: Any, **_: object) -> Tensor:
        assert tuple(shape) == (1, 10, 13)
        return longer(noise, (0, 4), value=3.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", as_drawn)
        patch.setattr(torch, "randint", lambda *_, **__: time)
        loss = singer.loss(wide, longer(mel, (0, 4), value=5.0), torch.tensor([9]))
    gradients(padded, loss.total)
    assert len(alone) == len(padded) > 10
    for one, other in zip(alone, padded, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_nothing_but_padding_is_no_loss() -> None:
    singer = tiny_diffsvc()
    loss = singer.loss(conditioning(2, 12), random_mel(2, 12), torch.tensor([0, 0]), rng())
    assert loss.total == 0
    loss.total.backward()


@pytest.mark.parametrize("make", [lambda: UniPc(steps=4), lambda: Ddpm(steps=4)])
def test_sampling_is_a_function_of_the_seed(make: Any) -> None:
    singer, inputs = tiny_diffsvc().eval(), conditioning(2, 12)
    mels = [singer.predict_mel(inputs, make(), rng=rng(seed)) for seed in (3, 3, 4)]
    assert mels[0].shape == (2, 10, 12)
    assert mels[0].dtype == torch.float32
    assert torch.equal(mels[0], mels[1])
    assert not torch.allclose(mels[0], mels[2])


def test_given_noise_counts_and_items_are_independent() -> None:
    singer, inputs = tiny_diffsvc().eval(), conditioning(2, 12)
    noise, step_noise = torch.randn(2, 10, 12), torch.randn(4, 2, 10, 12)
    seen: list[tuple[int, int]] = []
    mel = singer.predict_mel(
        inputs,
        Ddpm(steps=4),
        noise=noise,
        step_noise=step_noise,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    second = replace(
        inputs,
        **{
            name: getattr(inputs, name)[1:]
            for name in ("content", "f0_hz", "voiced", "energy", "speaker", "key_shift_semitones")
        },
    )
    alone = singer.predict_mel(second, Ddpm(steps=4), noise=noise[1:], step_noise=step_noise[:, 1:])
    torch.testing.assert_close(alone[0], mel[1], atol=1e-4, rtol=0)


def test_the_level_comes_from_the_energy() -> None:
    inputs = conditioning(1, 12)
    singer = tiny_diffsvc().eval()
    with torch.no_grad():
        singer.conditioner.energy.weight.zero_()  # type: ignore[union-attr]
    louder = replace(inputs, energy=10 * inputs.energy)
    quiet, loud = (singer.predict_mel(i, Ddim(steps=3), rng=rng()) for i in (inputs, louder))
    torch.testing.assert_close(loud - quiet, torch.full_like(loud, 2.302585), atol=1e-3, rtol=0)
    mel = random_mel(1, 12)
    torch.testing.assert_close(singer.unscaled(singer.scaled(mel, inputs), inputs), mel)
    absolute = tiny_diffsvc(use_energy=False, level_from_energy=False)
    assert torch.equal(absolute.scaled(mel, inputs), absolute.scaling.normalise(mel))
    with pytest.raises(ValueError, match="level_from_energy needs a conditioner with use_energy"):
        tiny_diffsvc(use_energy=False)


def test_a_shallow_start_keeps_what_its_steps_do_not_reach() -> None:
    singer, inputs, mel = tiny_diffsvc().eval(), conditioning(1, 12), random_mel(1, 12)

    def refined(steps: int) -> Tensor:
        sampler = Ddim(steps=min(10, max(steps, 1)))
        return singer.predict_mel(inputs, sampler, shallow_mel=mel, shallow_steps=steps, rng=rng())

    torch.testing.assert_close(refined(0), mel)
    distances = [(refined(steps) - mel).abs().mean().item() for steps in (10, 100, 1000)]
    assert 0 < distances[0] < distances[1] < distances[2]
    whole = singer.predict_mel(inputs, Ddim(steps=10), rng=rng())
    assert (refined(1000) - whole).abs().mean() < 0.1 * distances[2]


def test_no_frames_and_no_pitch() -> None:
    singer = tiny_diffsvc().eval()
    nothing = singer.predict_mel(conditioning(2, 0), UniPc(steps=4))
    assert nothing.shape == (2, 10, 0)
    inputs = conditioning(2, 0)
    assert singer.render(nothing, inputs.f0_hz, inputs.voiced).shape == (2, 1, 0)
    inputs = conditioning(1, 12)
    silent = replace(inputs, f0_hz=torch.zeros(1, 12), voiced=torch.zeros(1, 12).bool())
    mel = singer.predict_mel(silent, UniPc(steps=4), rng=rng())
    audio = singer.render(mel, silent.f0_hz, silent.voiced, rng=0)
    assert audio.shape == (1, 1, 12 * HOP_SAMPLES)
    assert audio.isfinite().all()


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_bf16_autocast_is_close_and_stays_float32_outside_the_network(
    prediction: Prediction,
) -> None:
    singer, inputs = tiny_diffsvc(prediction=prediction), conditioning(2, 12)
    noise = torch.randn(2, 10, 12, generator=rng())
    exact = singer.predict_mel(inputs, UniPc(steps=5), noise=noise)
    with torch.autocast("cpu", torch.bfloat16):
        rough = singer.predict_mel(inputs, UniPc(steps=5), noise=noise)
        loss = singer.loss(inputs, random_mel(2, 12), FULL, rng()).total
    assert rough.dtype == loss.dtype == torch.float32
    assert 0 < (rough - exact).abs().mean() < 0.05 * exact.std()
    full = singer.loss(inputs, random_mel(2, 12), FULL, rng()).total
    assert loss.item() == pytest.approx(full.item(), rel=0.02)


def test_refuses_what_does_not_fit() -> None:
    singer, inputs, mel = tiny_diffsvc(), conditioning(2, 12), random_mel(2, 12)
    with pytest.raises(ValueError, match=r"mel \[2, 9, 12\] must be \[2, 10, 12\]"):
        singer.loss(inputs, mel[:, :9], FULL)
    with pytest.raises(ValueError, match=r"mel \[2, 10, 11\] must be \[2, 10, 12\]"):
        singer.loss(inputs, mel[..., :11], FULL)
    with pytest.raises(ValueError, match="shallow_steps=1001 must be 0 to 1000"):
        singer.predict_mel(inputs, Ddim(steps=2), shallow_mel=mel, shallow_steps=1001)
    with pytest.raises(ValueError, match="give both or neither"):
        singer.predict_mel(inputs, Ddim(steps=2), shallow_mel=mel)
    with pytest.raises(ValueError, match=r"noise \[1, 10, 12\] must be \[2, 10, 12\]"):
        singer.predict_mel(inputs, Ddim(steps=2), noise=torch.zeros(1, 10, 12))
    with pytest.raises(UserError, match="Euler"):
        singer.predict_mel(inputs, Euler(steps=2))
    with pytest.raises(ValueError, match="prediction='mel' must be one of noise, v, data"):
        tiny_diffsvc(prediction="mel")


def test_names_the_inputs_that_are_not_finite() -> None:
    singer, inputs = tiny_diffsvc(), conditioning(1, 12)
    inputs.content[0, 2, 3] = torch.nan
    inputs.energy[0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"content, energy of the conditioning: NaN or infinite"):
        singer.predict_mel(inputs, Ddim(steps=2))
    mel = random_mel(1, 12)
    mel[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="shallow_mel holds NaN"):
        singer.predict_mel(conditioning(1, 12), Ddim(steps=2), shallow_mel=mel, shallow_steps=5)
