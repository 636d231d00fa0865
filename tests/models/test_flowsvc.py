"""FlowSVC: its loss, its guess, where it begins, and what it refuses."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.invariants import assert_every_parameter_learned
from models.mel_singers import HOP_SAMPLES, conditioning, random_mel, tiny_flowsvc, tiny_vocoder
from svc.diffusion.samplers.euler import Euler
from svc.diffusion.samplers.heun import Heun
from svc.diffusion.samplers.unipc import UniPc
from svc.errors import UserError
from svc.models.denoiser import MelDenoiser
from svc.models.flowsvc import FirstGuess, scale_gradient

FULL = torch.tensor([12, 12])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_parameter_but_the_vocoder_learns() -> None:
    singer = tiny_flowsvc()
    loss = singer.loss(conditioning(2, 12), random_mel(2, 12), FULL, rng())
    assert sorted(loss.parts) == ["flow", "guess"]
    parts = loss.parts["flow"] + singer.guess_weight * loss.parts["guess"]
    torch.testing.assert_close(loss.total.detach(), parts)
    loss.total.backward()
    assert_every_parameter_learned(singer, but="vocoder.")


def test_a_scaled_gradient_leaves_the_value_alone() -> None:
    x = torch.randn(50, requires_grad=True)
    y = scale_gradient(x, 0.1)
    assert torch.equal(x, y)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, torch.full((50,), 0.1))


def test_the_guess_moves_the_conditioner_by_a_tenth() -> None:
    """With a denoiser that lets no gradient through, so that the guess's is all there is."""

    def gradients(factor: float) -> tuple[Tensor, Tensor]:
        singer = tiny_flowsvc(guess_gradient=factor)
        sequence = torch.randn(2, 8, 12, generator=rng()).requires_grad_()
        with torch.no_grad():
            singer.denoiser.backbone.output.weight.zero_()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(singer.conditioner, "forward", lambda _: sequence)
            singer.loss(conditioning(2, 12), random_mel(2, 12), FULL, rng()).total.backward()
        of_guess = singer.first_guess.input.weight.grad
        assert sequence.grad is not None
        assert of_guess is not None
        return sequence.grad, of_guess

    (whole, of_guess), (tenth, same) = gradients(1.0), gradients(0.1)
    assert whole.abs().sum() > 0
    assert torch.equal(tenth, 0.1 * whole)
    assert torch.equal(same, of_guess)


@pytest.mark.parametrize("prediction", ["velocity", "data"])
def test_trains_only_the_late_part_of_the_path(prediction: Any) -> None:
    singer = tiny_flowsvc(start_time=0.75, prediction=prediction)
    inputs, mel = conditioning(64, 3), random_mel(64, 3)
    seen: list[Tensor] = []

    class Spy(MelDenoiser):
        def forward(self, x: Tensor, time: Tensor, *rest: Any) -> Tensor:
            seen[:] = [x, time]
            return torch.zeros_like(x)

    singer.denoiser.__class__ = Spy
    loss = singer.loss(inputs, mel, torch.full((64,), 3), rng())
    x, time = seen
    assert 0 <= time.min() < 20
    assert 230 < time.max() <= 250
    generator = rng()
    share = torch.rand(64, generator=generator)
    torch.testing.assert_close(time, 250 * (1 - share), atol=1e-4, rtol=0)
    noise = torch.randn(64, 10, 3, generator=generator)
    data = singer.scaled(mel, inputs)
    t = (0.75 + 0.25 * share)[:, None, None]
    torch.testing.assert_close(x, (1 - t) * noise + t * data)
    target = data - noise if prediction == "velocity" else data
    torch.testing.assert_close(loss.parts["flow"], target.square().mean())


@pytest.mark.parametrize("sampler", [Euler, Heun])
@pytest.mark.parametrize("steps", [2, 20])
@pytest.mark.parametrize("prediction", ["velocity", "data"])
def test_a_perfect_prediction_arrives_from_the_guess(
    sampler: Any, steps: int, prediction: Any
) -> None:
    """Data that the guess hits, and a flow that knows the noise: straight on to the data."""
    singer = tiny_flowsvc(start_time=0.6, prediction=prediction).eval()
    inputs = conditioning(2, 12)
    data, noise = torch.randn(2, 10, 12), torch.randn(2, 10, 12)
    times: list[float] = []

    class Known(MelDenoiser):
        def forward(self, x: Tensor, time: Tensor, *_: Any) -> Tensor:
            times.append(time[0].item())
            expected = noise + (1 - time[0] / 1000) * (data - noise)
            torch.testing.assert_close(x, expected, atol=1e-5, rtol=0)
            return data - noise if prediction == "velocity" else data

    singer.denoiser.__class__ = Known
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(singer.first_guess, "forward", lambda _: data)
        mel = singer.predict_mel(inputs, sampler(steps=steps), noise=noise)
    assert times[0] == pytest.approx(400)
    torch.testing.assert_close(mel, singer.unscaled(data, inputs), atol=1e-4, rtol=0)


def test_shallow_starts_take_the_place_of_the_guess() -> None:
    singer, inputs, mel = (
        tiny_flowsvc(start_time=0.4).eval(),
        conditioning(1, 12),
        random_mel(1, 12),
    )

    def refined(steps: int) -> Tensor:
        return singer.predict_mel(
            inputs, Euler(steps=4), shallow_mel=mel, shallow_steps=steps, rng=rng()
        )

    torch.testing.assert_close(refined(0), mel)
    assert 0 < (refined(50) - mel).abs().mean() < (refined(500) - mel).abs().mean()
    assert torch.equal(refined(600), refined(1000))  # no further back than it was trained
    assert not torch.equal(refined(600), singer.predict_mel(inputs, Euler(steps=4), rng=rng()))


def test_sampling_is_a_function_of_the_seed() -> None:
    singer, inputs = tiny_flowsvc().eval(), conditioning(2, 12)
    mels = [singer.predict_mel(inputs, Euler(steps=1), rng=rng(seed)) for seed in (3, 3, 4)]
    assert mels[0].shape == (2, 10, 12)
    assert torch.equal(mels[0], mels[1])
    assert not torch.allclose(mels[0], mels[2])


def test_without_a_guess_the_whole_path_is_trained_and_sampled() -> None:
    singer, inputs = tiny_flowsvc(start_time=0.0), conditioning(2, 12)
    loss = singer.loss(inputs, random_mel(2, 12), FULL, rng())
    assert sorted(loss.parts) == ["flow"]
    sampler = Euler(steps=4)
    singer.eval().predict_mel(inputs, sampler, rng=rng())
    assert sampler.times == [0.0, 0.25, 0.5, 0.75]


def test_padding_does_not_change_the_guess() -> None:
    torch.manual_seed(0)
    guess = FirstGuess(8, 10, channels=12, layers=2, kernel=5)
    assert guess.receptive_frames == 6
    sequence = torch.randn(1, 8, 9)
    mask = torch.ones(1, 1, 13)
    mask[..., 9:] = 0
    padded = guess(functional.pad(sequence, (0, 4), value=7.0), mask)
    torch.testing.assert_close(padded[..., :9], guess(sequence))
    assert guess(sequence, mask[..., :9]).dtype == torch.float32


def test_no_frames_and_no_pitch() -> None:
    singer = tiny_flowsvc().eval()
    assert singer.predict_mel(conditioning(2, 0), Euler(steps=4)).shape == (2, 10, 0)
    inputs = conditioning(1, 12)
    silent = replace(inputs, f0_hz=torch.zeros(1, 12), voiced=torch.zeros(1, 12).bool())
    mel = singer.predict_mel(silent, Heun(steps=4), rng=rng())
    audio = singer.render(mel, silent.f0_hz, silent.voiced, rng=0)
    assert audio.shape == (1, 1, 12 * HOP_SAMPLES)
    assert audio.isfinite().all()


def test_bf16_autocast_is_close() -> None:
    singer, inputs = tiny_flowsvc(), conditioning(2, 12)
    noise = torch.randn(2, 10, 12, generator=rng())
    exact = singer.predict_mel(inputs, Euler(steps=5), noise=noise)
    with torch.autocast("cpu", torch.bfloat16):
        rough = singer.predict_mel(inputs, Euler(steps=5), noise=noise)
        loss = singer.loss(inputs, random_mel(2, 12), FULL, rng()).total
    assert rough.dtype == loss.dtype == torch.float32
    assert 0 < (rough - exact).abs().mean() < 0.05 * exact.std()


def test_refuses_what_does_not_fit() -> None:
    singer, inputs = tiny_flowsvc(), conditioning(2, 12)
    with pytest.raises(UserError, match="UniPc"):
        singer.predict_mel(inputs, UniPc(steps=2))
    with pytest.raises(ValueError, match="start_time=1 must be"):
        tiny_flowsvc(start_time=1.0)
    with pytest.raises(ValueError, match="prediction='v' must be one of velocity, data"):
        tiny_flowsvc(prediction="v")
    with pytest.raises(ValueError, match="loss='l3' must be one of l1, l2, smooth_l1"):
        tiny_flowsvc(loss="l3")
    with pytest.raises(ValueError, match="mel_bins=12 must be the denoiser's 10"):
        singer.replace_vocoder(tiny_vocoder(12))
    inputs.f0_hz[0, 0] = torch.nan
    with pytest.raises(ValueError, match="f0_hz of the conditioning: NaN"):
        singer.predict_mel(inputs, Euler(steps=2))
