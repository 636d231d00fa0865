"""The excitation in pieces against the excitation in one go."""

import pytest
import torch

from svc.inference.excitation import render_excitation
from svc.models.sine_source import SineSource


@pytest.mark.parametrize("f0_upsampling", ["masked", "zeroed"])
@torch.inference_mode()
def test_pieces_are_what_one_pass_gives(f0_upsampling: str) -> None:
    torch.manual_seed(0)
    source = SineSource(f0_upsampling=f0_upsampling, voiced_noise_std=0.0)  # type: ignore[arg-type]
    rng = torch.Generator().manual_seed(1)
    f0_hz = 150 + 300 * torch.rand(100, generator=rng)
    voiced = torch.rand(100, generator=rng) > 0.2
    pieces = render_excitation(
        source, f0_hz, voiced, torch.Generator().manual_seed(2), piece_frames=7
    )
    phase, _ = source.draw(f0_hz[None, :0], torch.Generator().manual_seed(2))
    f0_samples_hz, voiced_samples = source.upsample(f0_hz[None], voiced[None])
    nothing = torch.zeros(1, source.sines, f0_samples_hz.shape[1])
    whole = source.excite(f0_samples_hz, voiced_samples, phase, nothing)
    assert pieces.shape == whole.shape == (1, 1, 100 * 512)
    # Only voiced samples are free of noise.
    error = (pieces - whole)[:, 0][voiced_samples].abs()
    assert float(error.max()) < 1e-5


def test_a_steady_tone_has_no_seam() -> None:
    torch.manual_seed(0)
    source = SineSource(harmonics=0, voiced_noise_std=0.0)
    torch.nn.init.ones_(source.mix.weight)
    f0_hz, voiced = torch.full((64,), 441.0), torch.ones(64, dtype=torch.bool)
    tone = render_excitation(source, f0_hz, voiced, torch.Generator(), piece_frames=10)[0, 0]
    # A period is 100 samples; every period is like the one before.
    assert float((tone[100:] - tone[:-100]).abs().max()) < 1e-5
    assert float(tone.std()) > 0.01


def test_the_seed_decides() -> None:
    source = SineSource()
    f0_hz, voiced = torch.full((8,), 200.0), torch.arange(8) < 4
    first, again, other = (
        render_excitation(source, f0_hz, voiced, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
