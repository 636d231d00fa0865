"""The sine source against the published one, exact sines, and its randomness."""

from pathlib import Path

import pytest
import torch

from svc.models.sine_source import SineSource


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict:
    return torch.load(shared / "golden" / "nsf_hifigan_small.pt", weights_only=True)


def source_of(golden: dict) -> tuple[SineSource, torch.Tensor, torch.Tensor]:
    source = SineSource(f0_upsampling="zeroed")
    source.mix.load_state_dict(
        {name: golden["generator"][f"m_source.l_linear.{name}"] for name in ("weight", "bias")}
    )
    f0_hz = golden["io"]["f0"]
    return source, f0_hz, f0_hz > 0


def test_zeroed_f0_is_upsampled_as_published(golden: dict) -> None:
    source, f0_hz, voiced = source_of(golden)
    f0_samples_hz, voiced_samples = source.upsample(f0_hz, voiced)
    expected = golden["io"]["zero_noise"]["f0_upsampled"][..., 0]
    torch.testing.assert_close(f0_samples_hz, expected, atol=1e-4, rtol=0)
    assert torch.equal(voiced_samples, expected > 0)


@pytest.mark.parametrize("version", ["zero_noise", "seeded"])
def test_excitation_is_as_published(golden: dict, version: str) -> None:
    source, f0_hz, voiced = source_of(golden)
    f0_samples_hz, voiced_samples = source.upsample(f0_hz, voiced)
    stored = golden["io"][version]
    if version == "seeded":
        initial_phase, noise = stored["rand_ini"].clone(), stored["sine_noise"].transpose(1, 2)
        initial_phase[:, 0] = 0
    else:
        initial_phase, noise = torch.zeros(1, 9), torch.zeros(1, 9, f0_samples_hz.shape[-1])
    excitation = source.excite(f0_samples_hz, voiced_samples, initial_phase, noise)
    torch.testing.assert_close(excitation, stored["har_source"], atol=1e-5, rtol=0)


def test_continuous_f0_sings_through_unvoiced_frames() -> None:
    source = SineSource(f0_upsampling="continuous")
    f0_hz = torch.tensor([[100.0, 200.0, 200.0, 0.0, 0.0]])
    voiced = torch.tensor([[True, False, True, False, False]])
    f0_samples_hz, voiced_samples = source.upsample(f0_hz, voiced)
    assert voiced_samples[0, : 3 * 512].all()
    assert not voiced_samples[0, 4 * 512 :].any()
    assert torch.equal(f0_samples_hz[0, : 512 // 2], torch.full((256,), 100.0))
    assert f0_samples_hz[0, 512] == pytest.approx(150, abs=1)
    assert torch.equal(source(f0_hz, voiced, rng=1), source(f0_hz, ~voiced, rng=1))


def fundamental_only(sample_rate_hz: int = 44_100) -> SineSource:
    source = SineSource(sample_rate_hz, hop_samples=512, harmonics=0, voiced_noise_std=0.0)
    torch.nn.init.ones_(source.mix.weight)
    torch.nn.init.zeros_(source.mix.bias)
    return source


def test_phase_does_not_drift_over_thirty_minutes() -> None:
    # A low rate keeps the test small; the number of cycles is that of 30 minutes at 1 kHz.
    cycles, samples_per_cycle = 1_800_000, 4
    frames = cycles * samples_per_cycle // 512
    f0_hz = torch.full((1, frames), 1000.0)
    source = fundamental_only(sample_rate_hz=1000 * samples_per_cycle)
    tail = source(f0_hz, torch.ones(1, frames, dtype=torch.bool))[0, 0, -512:]
    expected = torch.tensor([0.1, 0.0, -0.1, 0.0]).repeat(128).tanh()
    torch.testing.assert_close(tail, expected, atol=1e-6, rtol=0)


def test_masked_f0_keeps_its_pitch_up_to_the_border() -> None:
    source = fundamental_only()
    voiced = torch.tensor([[True, True, False, True]])
    f0_samples_hz, voiced_samples = source.upsample(torch.full((1, 4), 200.0), voiced)
    assert torch.equal(f0_samples_hz, torch.full((1, 2048), 200.0))
    assert torch.equal(voiced_samples[0].view(4, 512).all(1), voiced[0])


def test_same_seed_same_excitation() -> None:
    source, f0_hz = SineSource(), torch.full((2, 3), 220.0)
    voiced = torch.tensor([[True, False, True], [False, True, True]])
    first = source(f0_hz, voiced, rng=5)
    assert torch.equal(first, source(f0_hz, voiced, rng=torch.Generator().manual_seed(5)))
    assert not torch.equal(first, source(f0_hz, voiced, rng=6))
    assert not torch.equal(source(f0_hz, voiced), source(f0_hz, voiced))


def test_stays_float32_under_autocast() -> None:
    source, f0_hz = SineSource(), torch.full((1, 3), 220.0)
    voiced = torch.ones(1, 3, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = source(f0_hz, voiced, rng=0)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, source(f0_hz, voiced, rng=0))


def test_says_what_is_wrong_with_the_shapes() -> None:
    with pytest.raises(ValueError, match=r"\[1, 3\] and voiced \[1, 2\]"):
        SineSource()(torch.zeros(1, 3), torch.zeros(1, 2, dtype=torch.bool))


def test_a_glide_under_fp16_does_not_drift() -> None:
    """Ten minutes in one pass, at a low rate so that the test stays small."""
    rate_hz, hop, minutes = 4000, 512, 10
    frames = minutes * 60 * rate_hz // hop
    f0_hz = torch.linspace(300.0, 900.0, frames)
    with torch.autocast("cpu", dtype=torch.float16):
        tone = fundamental_only(rate_hz)(f0_hz[None], torch.ones(1, frames, dtype=torch.bool))
    # Linear interpolation keeps the sum of F0.
    f0_samples_hz, _ = SineSource(rate_hz, hop).upsample(f0_hz[None], torch.ones(1, frames).bool())
    cycles = f0_samples_hz[0].numpy().astype("float64").cumsum() / rate_hz
    assert cycles[-1] == pytest.approx(float(f0_hz.double().sum()) * hop / rate_hz, rel=1e-7)
    expected = torch.tanh(0.1 * torch.sin(2 * torch.pi * torch.from_numpy(cycles[-4000:] % 1)))
    torch.testing.assert_close(tone[0, 0, -4000:].double(), expected, atol=1e-4, rtol=0)
