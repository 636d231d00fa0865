"""The mel spectrogram: golden numbers of the published vocoders, and exact invariants."""

import math
from pathlib import Path

import pytest
import torch

from svc.audio.mel import LOG_FLOOR, MelSpectrogram
from svc.audio.spec import AudioSpec

SPEC = AudioSpec()


@pytest.fixture(scope="module")
def mel() -> MelSpectrogram:
    return MelSpectrogram(SPEC)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_reproduces_the_mel_of_the_published_vocoders(shared: Path) -> None:
    golden = torch.load(shared / "golden" / "nsf_hifigan_wrapper.pt", weights_only=True)["wav2spec"]
    spec = AudioSpec(sample_rate_hz=golden["sr"], mel_min_hz=40.0, mel_max_hz=16_000.0)
    result = MelSpectrogram(spec)(golden["wav"])[0]
    torch.testing.assert_close(result, golden["mel_natural"], atol=1e-4, rtol=0)
    # Times log10(e), rounded as the published wrapper rounds it.
    torch.testing.assert_close(result * 0.434294, golden["mel_log10"], atol=1e-4, rtol=0)


def test_reproduces_the_training_mel_of_the_predecessor(shared: Path) -> None:
    golden = torch.load(shared / "golden" / "features_small.pt", weights_only=True)
    assert golden["train_mels_cfg"][0] == (2048, 512, 2048)
    # That STFT is centred on multiples of the hop; ours half a hop later. The ends are reflected
    # at other places, so they are left out.
    audio = golden["wav"][:, 256:16_384]
    result = MelSpectrogram(AudioSpec(mel_bins=256))(audio)
    torch.testing.assert_close(
        result[..., 2:28], golden["train_mels"][0][..., 3:29], atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("samples", [512, 513, 768, 769, 1023, 1024, 5000, 44_100])
def test_frames_are_whole_hops(mel: MelSpectrogram, samples: int) -> None:
    result = mel(noise(samples))
    assert result.shape == (128, samples // 512)
    assert torch.isfinite(result).all()


def test_leading_dimensions_are_kept(mel: MelSpectrogram) -> None:
    audio = noise(2, 3, 4096)
    result = mel(audio)
    assert result.shape == (2, 3, 128, 8)
    assert mel.magnitude(audio).shape == (2, 3, 1025, 8)
    torch.testing.assert_close(result[1, 2], mel(audio[1, 2]))


@pytest.mark.parametrize("samples", [0, 511])
def test_less_than_a_hop_is_refused(mel: MelSpectrogram, samples: int) -> None:
    with pytest.raises(ValueError, match="one hop of 512"):
        mel(torch.zeros(samples))


def test_silence_is_the_floor(mel: MelSpectrogram) -> None:
    assert torch.equal(mel(torch.zeros(4096)), torch.full((128, 8), math.log(LOG_FLOOR)))


@pytest.mark.parametrize("gain_db", [-20.0, -6.0, 12.0])
def test_gain_shifts_the_log_mel(mel: MelSpectrogram, gain_db: float) -> None:
    audio = noise(8192)
    gain = 10 ** (gain_db / 20)
    shift = mel(gain * audio) - mel(audio)
    torch.testing.assert_close(
        shift, torch.full_like(shift, gain_db / 20 * math.log(10)), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("frame", [3, 7, 12])
@pytest.mark.parametrize("offset", [16, 256, 495])
def test_an_impulse_lands_in_its_frame(mel: MelSpectrogram, frame: int, offset: int) -> None:
    audio = torch.zeros(16 * 512)
    audio[512 * frame + offset] = 1.0
    energy = mel(audio).exp().sum(0)
    assert energy.argmax() == frame
    # The window is four hops wide: three frames away nothing of the impulse is left.
    silent = mel(torch.zeros(16 * 512)).exp().sum(0)
    assert torch.equal(energy[: frame - 2], silent[: frame - 2])
    assert torch.equal(energy[frame + 3 :], silent[frame + 3 :])


def test_window_is_centred_on_the_frame(mel: MelSpectrogram) -> None:
    audio = torch.zeros(16 * 512)
    audio[512 * 8 + 256] = 1.0
    energy = mel.magnitude(audio)[100]
    assert energy[8] == pytest.approx(1.0, abs=1e-3)
    assert energy[7] == pytest.approx(float(energy[9]), rel=1e-3)


@pytest.mark.parametrize("frequency_hz", [110.0, 440.0, 3520.0, 12_000.0])
def test_a_sine_peaks_in_its_band(mel: MelSpectrogram, frequency_hz: float) -> None:
    time_s = torch.arange(22_050) / SPEC.sample_rate_hz
    peak = mel(torch.sin(2 * math.pi * frequency_hz * time_s))[:, 5:-5].mean(1).argmax()
    centre_hz = mel.filters[peak].argmax() * SPEC.sample_rate_hz / SPEC.window_samples
    assert float(centre_hz) == pytest.approx(frequency_hz, abs=max(45.0, 0.04 * frequency_hz))


def test_specs_of_another_range_differ_only_in_filters(mel: MelSpectrogram) -> None:
    published = MelSpectrogram(AudioSpec(mel_min_hz=40.0, mel_max_hz=16_000.0))
    audio = noise(8192)
    magnitude = mel.magnitude(audio)
    assert torch.equal(magnitude, published.magnitude(audio))
    assert torch.equal(published.from_magnitude(magnitude), published(audio))
    assert not torch.allclose(published(audio), mel(audio), atol=0.1)


def test_a_shorter_signal_is_the_start_of_a_longer_one(mel: MelSpectrogram) -> None:
    audio = noise(40 * 512)
    # Two frames at the end see the reflection instead of what follows.
    torch.testing.assert_close(mel(audio[: 20 * 512])[:, :18], mel(audio)[:, :18])


def test_gradient_reaches_every_sample(mel: MelSpectrogram) -> None:
    audio = noise(4096).requires_grad_()
    (gradient,) = torch.autograd.grad(mel(audio).sum(), audio)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).all()


def test_gradient_of_silence_is_finite(mel: MelSpectrogram) -> None:
    audio = torch.zeros(4096, requires_grad=True)
    (gradient,) = torch.autograd.grad(mel.magnitude(audio).sum(), audio)
    assert torch.isfinite(gradient).all()


def test_gradient_agrees_with_finite_differences(mel: MelSpectrogram) -> None:
    audio, direction = noise(4096), noise(4096, seed=1)
    variable = audio.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mel(variable).mean(), variable)
    derivative = gradient @ direction
    step = 1e-2
    measured = (mel(audio + step * direction).mean() - mel(audio - step * direction).mean()) / (
        2 * step
    )
    assert float(derivative) == pytest.approx(float(measured), rel=0.05)


def test_autocast_changes_nothing(mel: MelSpectrogram) -> None:
    audio = noise(8192)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mel(audio)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, mel(audio))


def test_stays_exact_when_the_module_is_cast(mel: MelSpectrogram) -> None:
    audio = noise(8192)
    cast = torch.nn.Sequential(MelSpectrogram(SPEC)).to(torch.bfloat16)
    assert torch.equal(cast(audio), mel(audio))
    assert cast(audio.bfloat16()).dtype == torch.float32


def test_leaves_nothing_in_a_checkpoint(mel: MelSpectrogram) -> None:
    assert mel.state_dict() == {}
    assert list(mel.parameters()) == []
