"""The spectrogram discriminator: what it sees, and what it gives to the losses."""

import pytest
import torch
from torch import Tensor

from models.invariants import assert_every_parameter_learned
from svc.models.discriminators import Discriminators
from svc.models.period_discriminator import MultiPeriodDiscriminator
from svc.models.spectrogram_discriminator import (
    PUBLISHED_RESOLUTIONS,
    MultiResolutionSpectrogramDiscriminator,
    SpectrogramDiscriminator,
    StftResolution,
)


def tone(frequency_hz: float, samples: int = 8192) -> Tensor:
    """[1, 1, T] at 44.1 kHz."""
    return torch.sin(2 * torch.pi * frequency_hz * torch.arange(samples) / 44_100)[None, None]


def test_it_sees_a_tone_at_its_frequency_and_size() -> None:
    judge = SpectrogramDiscriminator(StftResolution(1024, 128, 512), channels=2)
    magnitude = judge.magnitude(0.5 * tone(100 * 44_100 / 1024))
    assert magnitude.shape == (1, 513, 64)
    inside = magnitude[0, :, 8:-8]
    assert inside.argmax(0).unique().tolist() == [100]
    # Half the amplitude times the sum of the window.
    torch.testing.assert_close(inside[100], torch.full((48,), 0.25 * 256.0), rtol=1e-3, atol=0)


def test_frames_are_kept_and_frequency_is_halved_three_times() -> None:
    judge = SpectrogramDiscriminator(StftResolution(512, 128, 512), channels=3)
    scores, features = judge(tone(440).repeat(2, 1, 1))
    assert [list(f.shape) for f in features] == [
        [2, 3, 64, 257],
        [2, 3, 64, 129],
        [2, 3, 64, 65],
        [2, 3, 64, 33],
        [2, 3, 64, 33],
        [2, 1, 64, 33],
    ]
    assert torch.equal(scores, features[-1].flatten(1))


def test_published_resolutions_and_size() -> None:
    judges = MultiResolutionSpectrogramDiscriminator()
    assert [tuple(vars(j.resolution).values()) for j in judges.resolutions] == list(  # type: ignore[union-attr]
        PUBLISHED_RESOLUTIONS
    )
    # 32 channels: 1*32*27, three of 32*32*27, 32*32*9, 32*9 weights; a length and a bias each.
    single = 32 * 27 + 3 * 32 * 32 * 27 + 32 * 32 * 9 + 32 * 9 + 2 * (5 * 32 + 1)
    assert sum(p.numel() for p in judges.parameters()) == 3 * single


def test_they_join_the_other_judges() -> None:
    periods = MultiPeriodDiscriminator((2, 3), channels=(4, 4))
    spectrograms = MultiResolutionSpectrogramDiscriminator([(256, 64, 256)], channels=4)
    together = Discriminators(periods, spectrograms=spectrograms)
    output = together(tone(300))
    assert len(together.judges) == len(output.scores) == 3
    assert torch.equal(output.scores[2], spectrograms.resolutions[0](tone(300))[0])
    assert len(Discriminators(periods).judges) == 2


def test_every_parameter_and_the_audio_get_finite_gradients() -> None:
    judge = MultiResolutionSpectrogramDiscriminator([(256, 64, 200)], channels=4)
    audio = torch.cat([tone(700, 2000), torch.zeros(1, 1, 2000)], -1).requires_grad_()
    ((scores, features),) = judge(audio)
    sum(x.square().mean() for x in [scores, *features]).backward()  # type: ignore[union-attr]
    assert audio.grad is not None
    assert audio.grad.isfinite().all()
    assert float(audio.grad.abs().sum()) > 0
    assert_every_parameter_learned(judge)


def test_the_transform_stays_float32() -> None:
    judge = SpectrogramDiscriminator(StftResolution(512, 128, 512), channels=2)
    audio = tone(440)
    expected = judge.magnitude(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(
            judge.magnitude(audio.bfloat16().float()), judge.magnitude(audio.bfloat16())
        )
        assert torch.equal(judge.magnitude(audio), expected)
        scores, _ = judge(audio)
    assert scores.dtype == torch.bfloat16
    assert judge.bfloat16().window.dtype == torch.float32


@pytest.mark.parametrize("samples", [64, 97, 300])
def test_short_audio_is_judged(samples: int) -> None:
    """Shorter than its padding, it is padded with zeros rather than mirrored."""
    judge = SpectrogramDiscriminator(StftResolution(256, 64, 256), channels=2)
    scores, _ = judge(tone(440, samples))
    assert scores.isfinite().all()


def test_a_window_longer_than_the_fft_is_refused() -> None:
    with pytest.raises(ValueError, match="window must not be longer"):
        SpectrogramDiscriminator(StftResolution(256, 64, 512))
