"""HiFiSinger without a mel in the middle: the same classes, composed as fish-diffusion does."""

import pytest
import torch

from models.invariants import (
    assert_a_crop_with_its_context_sings_the_same,
    assert_every_parameter_learned,
)
from models.mel_singers import conditioning, tiny_vocoder
from svc.models.conditioner import Conditioner
from svc.models.feature_fuser import FeatureFuser
from svc.models.hifisinger import HifiSinger


def tiny(channels: int = 8, decoder_channels: int = 8, **settings: bool) -> HifiSinger:
    torch.manual_seed(0)
    return HifiSinger(
        Conditioner(
            content_channels=5,
            speakers=2,
            channels=channels,
            kernel=1,
            pitch_encoding="none",
            energy_encoding="linear",
            key_shift_encoding="semitones",
        ),
        FeatureFuser(channels),
        tiny_vocoder(decoder_channels, shaped_source=settings.pop("shaped_source", False)),
        **({"level_from_energy": False, "mel_bottleneck": False} | settings),
    )


@torch.inference_mode()
def test_the_decoder_takes_what_the_backbone_puts_out() -> None:
    singer, inputs = tiny().eval(), conditioning(2, 6)
    output = singer(inputs, rng=3)
    assert output.audio.shape == (2, 1, 6 * 32)
    assert output.mel is None
    sequence = singer.conditioner(inputs)
    fused = singer.backbone(sequence, sequence)
    assert torch.equal(singer.decoder_input(inputs), fused)
    assert torch.equal(output.audio, singer.decoder(fused, inputs.f0_hz, inputs.voiced, rng=3))
    window = singer(inputs, rendered=slice(2, 5), rng=3)
    assert window.audio.shape == (2, 1, 3 * 32)
    assert not singer.has_mel
    with pytest.raises(ValueError, match="predicts no mel"):
        singer.predict_mel(inputs)


@torch.inference_mode()
def test_the_fuser_is_two_layers_at_every_frame() -> None:
    fuser = FeatureFuser(8)
    x = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    wanted = x.transpose(1, 2)
    for layer in (fuser.hidden, fuser.output):
        wanted = wanted @ layer.weight[:, :, 0].T + layer.bias
        wanted = wanted * wanted.sigmoid()
    torch.testing.assert_close(fuser(x, x), wanted.transpose(1, 2), atol=1e-6, rtol=0)
    assert torch.equal(fuser(x, x), fuser(x, torch.zeros_like(x)))


def test_a_crop_with_its_context_sings_the_same() -> None:
    singer = tiny().eval()
    assert singer.receptive_frames == singer.decoder.receptive_frames
    assert_a_crop_with_its_context_sings_the_same(singer)


def test_every_parameter_learns_from_audio() -> None:
    singer, inputs = tiny(), conditioning(2, 6)
    singer(inputs, rng=0).audio.square().mean().backward()
    assert_every_parameter_learned(singer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoder_channels": 10}, "mel_bins=10 must be the backbone's out_channels=8"),
        ({"level_from_energy": True}, "needs mel_bottleneck"),
        ({"shaped_source": True}, "needs mel_bottleneck"),
    ],
)
def test_refuses_what_needs_a_mel(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**settings)
