import math

import pytest
import torch
from torch import Tensor, nn

from svc.audio.spec import AudioSpec
from svc.errors import UserErrors
from svc.training.losses.adversarial import (
    discriminator_adversarial_loss,
    generator_adversarial_loss,
)
from svc.training.losses.feature_matching import feature_matching_loss
from svc.training.losses.gradient_penalty import r1_gradient_penalty
from svc.training.losses.mel import frame_mask, masked_mel_l1, mel_l1_sums
from svc.training.losses.spectral import MultiResolutionSpectralLoss, Resolution
from svc.training.losses.weights import LossWeights


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_generator_is_content_when_every_score_is_one() -> None:
    assert generator_adversarial_loss([torch.ones(2, 5), torch.ones(2, 3)]) == 0
    # Sum over sub-discriminators of means: (0 - 1)² + (3 - 1)²
    assert generator_adversarial_loss([torch.zeros(2, 5), torch.full((2, 3), 3.0)]) == 5


def test_discriminator_is_content_with_ones_for_real_and_zeros_for_fake() -> None:
    ones, zeros = torch.ones(2, 5), torch.zeros(2, 5)
    assert discriminator_adversarial_loss([ones], [zeros]) == 0
    assert discriminator_adversarial_loss([zeros], [ones]) == 2
    halves = [ones / 2] * 3
    assert discriminator_adversarial_loss(halves, halves) == pytest.approx(3 * 0.5)


def test_adversarial_losses_are_computed_in_fp32() -> None:
    scores = [torch.full((4,), 300.0, dtype=torch.float16)]  # whose square overflows fp16
    assert generator_adversarial_loss(scores) == pytest.approx(299.0**2)
    assert discriminator_adversarial_loss(scores, scores) == pytest.approx(299.0**2 + 300.0**2)


def test_feature_matching_sums_layers_and_leaves_the_target_alone() -> None:
    real = [[torch.ones(2, 3, requires_grad=True)], [torch.zeros(4)]]
    fake = [[torch.full((2, 3), 3.0, requires_grad=True)], [torch.full((4,), -1.0)]]
    loss = feature_matching_loss(real, fake)
    assert loss == 3
    loss.backward()
    assert real[0][0].grad is None
    assert torch.equal(fake[0][0].grad, torch.full((2, 3), 1 / 6))
    assert feature_matching_loss(real, real) == 0


def test_feature_matching_refuses_different_numbers_of_layers() -> None:
    layer = torch.ones(2)
    with pytest.raises(ValueError, match="zip"):
        feature_matching_loss([[layer, layer]], [[layer]])


def test_mel_l1_ignores_padding() -> None:
    target = noise(2, 4, 6)
    predicted = target.clone()
    predicted[0] += 0.5
    predicted[1, :, 2:] = 1e6
    lengths = torch.tensor([6, 2])
    assert masked_mel_l1(predicted, target, lengths) == pytest.approx(0.5 * 6 / 8, rel=1e-5)
    assert masked_mel_l1(target, target, lengths) == 0
    assert masked_mel_l1(predicted, target, torch.zeros(2, dtype=torch.int64)) == 0
    total, frames = mel_l1_sums(predicted, target, lengths)
    assert float(frames) == 8
    assert float(total) == pytest.approx(3.0, rel=1e-5)


def test_frame_mask() -> None:
    assert frame_mask(torch.tensor([0, 2]), 3).tolist() == [[0, 0, 0], [1, 1, 0]]


@pytest.fixture(scope="module")
def spectral_loss() -> MultiResolutionSpectralLoss:
    return MultiResolutionSpectralLoss(AudioSpec())


def test_spectral_losses_vanish_at_identity(spectral_loss: MultiResolutionSpectralLoss) -> None:
    audio = (0.1 * noise(2, 1, 4096)).requires_grad_()
    losses = spectral_loss(audio, audio.detach())
    assert losses.mel == 0
    assert losses.stft == 0
    (losses.mel + losses.stft).backward()
    assert torch.isfinite(audio.grad).all()


def test_spectral_losses_of_a_gain(spectral_loss: MultiResolutionSpectralLoss) -> None:
    """6 dB change every log magnitude by ln 2 and are a spectral convergence of 1."""
    audio = 0.1 * noise(2, 1, 4096)
    losses = spectral_loss(2 * audio, audio)
    assert float(losses.mel) == pytest.approx(math.log(2), rel=1e-3)
    assert float(losses.stft) == pytest.approx(math.log(2) + 1, rel=1e-3)


def test_spectral_losses_of_silence_are_finite(spectral_loss: MultiResolutionSpectralLoss) -> None:
    silence = torch.zeros(1, 1, 4096, requires_grad=True)
    for target in (torch.zeros(1, 1, 4096), 0.1 * noise(1, 1, 4096)):
        losses = spectral_loss(silence, target)
        (losses.mel + losses.stft).backward()
        assert torch.isfinite(losses.mel + losses.stft)
        assert torch.isfinite(silence.grad).all()


def test_spectral_losses_are_fp32_under_autocast(
    spectral_loss: MultiResolutionSpectralLoss,
) -> None:
    one, other = 0.1 * noise(1, 1, 4096), 0.1 * noise(1, 1, 4096, seed=1)
    expected = spectral_loss(one, other)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = spectral_loss(one, other)
    assert losses.mel.dtype == losses.stft.dtype == torch.float32
    assert torch.equal(losses.mel, expected.mel)
    assert torch.equal(losses.stft, expected.stft)


def test_resolutions_keep_the_mel_range_of_the_data() -> None:
    loss = MultiResolutionSpectralLoss(
        AudioSpec(mel_min_hz=40, mel_max_hz=16_000), [Resolution(512, 128, 20)]
    )
    spec = loss.spectrograms[0].spec
    assert (spec.mel_min_hz, spec.mel_max_hz) == (40, 16_000)
    assert (spec.window_samples, spec.hop_samples, spec.mel_bins) == (512, 128, 20)
    with pytest.raises(ValueError, match="at least one"):
        MultiResolutionSpectralLoss(AudioSpec(), [])


def test_gradient_penalty_of_a_linear_score_is_its_squared_slope() -> None:
    """Two linear scores of slope 3 and 1 for every sample: (3 + 1)² whatever the length."""
    for samples in (10, 30):
        penalty = r1_gradient_penalty(lambda x: [3 * x, x], noise(2, 1, samples))
        assert float(penalty) == pytest.approx(16)
    assert r1_gradient_penalty(lambda x: [x * 0], noise(2, 1, 10)) == 0


def test_gradient_penalty_trains_the_scores() -> None:
    score = nn.Linear(1, 1, bias=False)
    nn.init.constant_(score.weight, 3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = r1_gradient_penalty(lambda x: [score(x.mT)], noise(2, 1, 8))
    assert penalty.dtype == torch.float32
    penalty.backward()
    assert float(score.weight.grad) == pytest.approx(6.0)  # d w² / dw


def test_weights_name_the_parts() -> None:
    weights = LossWeights(adversarial=1, mel=2, stft=0)
    parts = {name: torch.tensor(10.0) for name in ("adversarial", "mel", "stft")}
    assert weights.total(parts) == 30
    with pytest.raises(UserErrors) as error:
        LossWeights(mel=-1, stft=math.nan)
    assert len(error.value.faults) == 2
