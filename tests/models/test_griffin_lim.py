"""Phase reconstruction: framing, silence, determinism, and what a cut of the input gives."""

import pytest
import torch
from torch import Tensor

from svc.audio.mel import LOG_FLOOR, MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.models import griffin_lim
from svc.models.griffin_lim import GriffinLim

SPEC = AudioSpec()


def buzz(frames: int, f0_hz: float = 220.0) -> Tensor:
    """[1, T] with twelve harmonics."""
    phase = 2 * torch.pi * f0_hz * torch.arange(frames * SPEC.hop_samples) / SPEC.sample_rate_hz
    return 0.2 * sum(torch.sin(k * phase) / k for k in range(1, 13))[None]  # type: ignore[index]


def rendered(vocoder: GriffinLim, mel: Tensor, **options: object) -> Tensor:
    nothing = torch.zeros(mel.shape[0], mel.shape[2])
    audio: Tensor = vocoder(mel, nothing, nothing.bool(), **options)
    return audio


def test_the_waveform_has_the_mel_on_the_same_frames() -> None:
    mel_of = MelSpectrogram(SPEC)
    audio = buzz(60)
    audio[:, : 20 * 512] = 0.0  # so that frames out of place would show
    mel = mel_of(audio)
    again = mel_of(rendered(GriffinLim(), mel, rng=0)[:, 0])
    assert float((again - mel)[:, :, 24:].abs().mean()) < 0.3
    assert float(again[:, :, :16].exp().mean()) < 0.01 * float(again[:, :, 30:].exp().mean())
    later = mel_of(rendered(GriffinLim(), mel, rng=0)[:, 0].roll(512, -1))
    assert float((later - mel)[:, :, 18:24].abs().mean()) > 2 * float(
        (again - mel)[:, :, 18:24].abs().mean()
    )


def test_more_iterations_come_closer() -> None:
    mel_of = MelSpectrogram(SPEC)
    mel = mel_of(buzz(40))
    distances = [
        float((mel_of(rendered(GriffinLim(iterations=n), mel, rng=0)[:, 0]) - mel).abs().mean())
        for n in (1, 8, 32)
    ]
    assert distances[0] > distances[1] > distances[2]


def test_the_magnitude_is_not_negative_and_has_the_mel() -> None:
    vocoder, mel = GriffinLim(), MelSpectrogram(SPEC)(buzz(20))
    magnitude = vocoder.magnitude(mel)
    assert magnitude.shape == (1, 1025, 20)
    assert float(magnitude.min()) >= 0
    again = (vocoder.filters.T @ magnitude).clamp_min(LOG_FLOOR).log()
    assert float((again - mel).abs().mean()) < 0.1


def test_silence_stays_silent() -> None:
    mel = MelSpectrogram(SPEC)(torch.zeros(1, 10 * 512))
    assert not rendered(GriffinLim(iterations=2), mel, rng=0).any()


def test_the_seed_decides_and_f0_does_not() -> None:
    vocoder, mel = GriffinLim(iterations=2), MelSpectrogram(SPEC)(buzz(8))
    f0_hz = torch.full((1, 8), 300.0)
    first = rendered(vocoder, mel, rng=1)
    with_f0 = vocoder(mel, f0_hz, f0_hz > 0, rng=torch.Generator().manual_seed(1))
    assert torch.equal(first, with_f0)
    assert not torch.equal(first, rendered(vocoder, mel, rng=2))


def test_a_cut_with_its_noise_is_a_cut_of_the_whole() -> None:
    vocoder = GriffinLim(iterations=3)
    assert vocoder.receptive_frames == 15
    mel = MelSpectrogram(SPEC)(buzz(80))
    noise = torch.randn(1, 1, 80 * 512, generator=torch.Generator().manual_seed(0))
    whole = rendered(vocoder, mel, source=noise)
    part = rendered(vocoder, mel[..., 20:70], source=noise[..., 20 * 512 : 70 * 512])
    difference = (whole[..., 20 * 512 : 70 * 512] - part).abs()[0, 0].view(50, 512).amax(1)
    assert float(difference[15:-15].max()) < 1e-6
    assert float(difference[0]) > 1e-3


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_a_few_frames_or_none(frames: int) -> None:
    audio = rendered(GriffinLim(iterations=2), torch.zeros(2, 128, frames), rng=0)
    assert audio.shape == (2, 1, frames * 512)
    assert audio.isfinite().all()


def test_stays_float32_under_autocast() -> None:
    mel = MelSpectrogram(SPEC)(buzz(8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        audio = rendered(GriffinLim(iterations=2), mel, rng=1)
    assert audio.dtype == torch.float32
    assert torch.equal(audio, rendered(GriffinLim(iterations=2), mel, rng=1))


def test_says_what_is_wrong() -> None:
    vocoder, mel = GriffinLim(), torch.zeros(1, 128, 4)
    with pytest.raises(ValueError, match=r"\[1, 80, 4\] must be \[B, 128, N\]"):
        rendered(vocoder, torch.zeros(1, 80, 4))
    with pytest.raises(ValueError, match=r"F0 \[1, 5\]"):
        vocoder(mel, torch.zeros(1, 5), torch.zeros(1, 5).bool())
    with pytest.raises(ValueError, match="the source"):
        rendered(vocoder, mel, source=torch.zeros(1, 1, 100))
    with pytest.raises(ValueError, match="window_samples=1000"):
        GriffinLim(window_samples=1000)
    with pytest.raises(ValueError, match="momentum=1"):
        GriffinLim(momentum=1.0)


def test_the_floor_is_that_of_the_mels() -> None:
    assert torch.tensor(LOG_FLOOR).log().item() == pytest.approx(griffin_lim.LOG_FLOOR)


def test_mels_of_untrained_models_stay_finite() -> None:
    vocoder = GriffinLim(iterations=2)
    mel = torch.full((1, 128, 4), 1000.0)
    audio = vocoder(mel, torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.bool), rng=0)
    assert audio.isfinite().all()
