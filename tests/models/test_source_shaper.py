"""A source that has the mel's envelope before a network has learnt anything."""

import torch

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.source_shaper import SourceShaper

SPEC = AudioSpec()
FRAMES = 40


def shaper() -> SourceShaper:
    return SourceShaper(44_100, 512, 128, 0.0, 22_050.0)


def noise(seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(1, 1, FRAMES * 512, generator=rng)


def test_takes_on_the_envelope_of_the_mel() -> None:
    mel = MelSpectrogram(SPEC)
    target = noise(0)
    target[..., : 20 * 512] *= 0.1  # quiet, then loud
    shaped = shaper()(noise(1), mel(target[:, 0]))
    difference = (mel(shaped[:, 0]) - mel(target[:, 0]))[..., 3:-3]
    assert abs(float(difference.mean())) < 0.1
    quiet, loud = difference[..., :14], difference[..., 20:]
    assert abs(float(quiet.mean())) < 0.15
    assert abs(float(loud.mean())) < 0.15


def test_a_source_that_fits_already_passes_unchanged() -> None:
    source = noise(2)
    shaped = shaper()(source, MelSpectrogram(SPEC)(source[:, 0]))
    inner = slice(4 * 512, -4 * 512)
    error = (shaped - source)[..., inner].square().mean() / source.square().mean()
    assert float(error) < 1e-3


def test_keeps_length_and_alignment() -> None:
    impulse = torch.zeros(1, 1, FRAMES * 512)
    impulse[..., 20 * 512 + 100] = 0.5
    shaped = shaper()(impulse, MelSpectrogram(SPEC)(impulse[:, 0]))
    assert shaped.shape == impulse.shape
    assert int(shaped.abs().argmax()) == 20 * 512 + 100


def test_no_gradient_reaches_the_mel_through_the_shaping() -> None:
    mel = torch.zeros(1, 128, FRAMES, requires_grad=True)
    assert not shaper()(noise(3), mel).requires_grad


def test_a_decoder_with_it_starts_near_the_mel_and_is_local() -> None:
    torch.manual_seed(0)
    decoder = NsfHifiGan(
        initial_channels=32,
        upsample_rates=(8, 8, 4, 2),
        upsample_kernels=(16, 16, 8, 4),
        resblock_kernels=(3,),
        resblock_dilations=((1, 3),),
        harmonics=60,
        shaped_source=True,
    ).eval()
    frames = 2 * decoder.receptive_frames + 10
    f0_hz = torch.full((1, frames), 220.0)
    voiced = torch.ones(1, frames, dtype=torch.bool)
    mel = MelSpectrogram(SPEC)
    wanted = mel(0.1 * torch.randn(1, frames * 512, generator=torch.Generator().manual_seed(4)))
    with torch.no_grad():
        source = decoder.sine_source(f0_hz, voiced, rng=0)
        audio = decoder(wanted, f0_hz, voiced, source=source)
        assert float((mel(audio[:, 0]) - wanted)[:, 40:100, 5:-5].mean().abs()) < 1.0
        changed = wanted.clone()
        changed[..., 0] += 3.0
        other = decoder(changed, f0_hz, voiced, source=source)
    reached = (audio - other)[0, 0].abs().nonzero().max() // 512
    assert int(reached) <= decoder.receptive_frames
