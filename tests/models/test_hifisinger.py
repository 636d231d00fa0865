"""HiFiSinger as a whole: size, shapes, reach, and that it can learn."""

import pytest
import torch

from models.invariants import (
    assert_a_crop_with_its_context_sings_the_same,
    assert_every_parameter_learned,
)
from models.mel_singers import conditioning, tiny_vocoder
from svc.models.conditioner import Conditioner
from svc.models.hifisinger import HifiSinger
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.wavenet import WaveNet


def tiny(level_from_energy: bool = True, use_energy: bool = True) -> HifiSinger:
    torch.manual_seed(0)
    return HifiSinger(
        Conditioner(content_channels=5, speakers=2, channels=8, use_energy=use_energy),
        WaveNet(8, 8, 8, 2, 2, out_channels=8),
        tiny_vocoder(10),
        level_from_energy=level_from_energy,
    )


def test_default_size_is_fifteen_million() -> None:
    singer = HifiSinger(
        Conditioner(content_channels=256, speakers=10, channels=128),
        WaveNet(128, 128, 128, 8, 4, out_channels=128),
        NsfHifiGan(),
    )
    parameters = sum(p.numel() for p in singer.parameters())
    assert abs(parameters - 15e6) < 1.5e6


@torch.inference_mode()
def test_audio_is_the_decoder_on_the_predicted_mel() -> None:
    singer, inputs = tiny().eval(), conditioning(2, 6)
    output = singer(inputs, rng=3)
    assert output.audio.shape == (2, 1, 6 * 32)
    assert output.mel.shape == (2, 10, 6)
    assert torch.equal(output.mel, singer.predict_mel(inputs))
    again = singer.decoder(output.mel, inputs.f0_hz, inputs.voiced, rng=3)
    assert torch.equal(output.audio, again)
    assert -8 < output.mel.mean() < -3


@torch.inference_mode()
def test_mel_is_predicted_relative_to_the_energy() -> None:
    inputs = conditioning(2, 6)
    relative, absolute = (tiny(level).eval().predict_mel(inputs) for level in (True, False))
    level = (inputs.energy.log() + 3.0)[:, None]  # -26 dB is where nothing is added
    torch.testing.assert_close(relative, absolute + level, atol=1e-5, rtol=0)


def test_levels_cannot_come_from_energy_that_is_left_out() -> None:
    tiny(level_from_energy=False, use_energy=False)
    with pytest.raises(ValueError, match="use_energy"):
        tiny(use_energy=False)


def test_a_crop_with_its_context_sings_the_same() -> None:
    singer = tiny().eval()
    assert_a_crop_with_its_context_sings_the_same(singer)


def test_every_parameter_learns_from_audio_and_mel() -> None:
    singer, inputs = tiny(), conditioning(2, 6)
    output = singer(inputs, rng=0)
    (output.audio.square().mean() + output.mel.square().mean()).backward()
    assert_every_parameter_learned(singer)


def test_learns_a_mel_within_a_few_steps() -> None:
    singer, inputs = tiny(), conditioning(2, 12)
    target = -5.0 + 2.0 * torch.sin(torch.arange(10.0))[None, :, None] + inputs.content[:, :1]
    optimizer = torch.optim.AdamW(singer.parameters(), lr=5e-3)
    losses = []
    for _ in range(80):
        loss = (singer.predict_mel(inputs) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
