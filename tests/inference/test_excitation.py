"""The excitation in pieces against the excitation in one go."""

import math

import pytest
import torch

from svc.inference.excitation import render_excitation
from svc.models.sine_source import SineSource


@pytest.mark.parametrize("f0_upsampling", ["masked", "zeroed", "continuous"])
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


@pytest.mark.slow
@pytest.mark.parametrize("last_hz", [220.0, 880.0])
def test_thirty_minutes_under_fp16_do_not_drift(last_hz: float) -> None:
    """A steady and a gliding tone: every second of it is where the integral of F0 says."""
    source = SineSource(harmonics=0, voiced_noise_std=0.0)
    torch.nn.init.ones_(source.mix.weight)
    frames, hop, rate_hz = 1800 * 44_100 // 512, 512, 44_100
    f0_hz = torch.linspace(220.0, last_hz, frames)
    with torch.autocast("cpu", dtype=torch.float16):
        tone = render_excitation(source, f0_hz, torch.ones(frames).bool(), torch.Generator())[0, 0]
    sine = torch.atanh(tone) / source.amplitude
    # Within a frame's reach of the ends F0 is held; in between it rises by the same per sample.
    slope = float(f0_hz[-1].double() - f0_hz[0].double()) / (frames - 1) / hop
    for second in (1, 600, 1200, 1798):
        n = torch.arange(second * rate_hz, (second + 1) * rate_hz, dtype=torch.float64)
        # Sample 0 lies half a hop before the first frame's centre.
        since = n + 1 - hop / 2
        held = 220.0 * (hop / 2)
        cycles = (held + 220.0 * since + slope * since.square() / 2) / rate_hz
        # The phase error is the angle by which the tone lies off its truth.
        angle = 2 * torch.pi * cycles
        ahead = torch.atan2(
            sine[n.long()].double() @ torch.cos(angle),
            sine[n.long()].double() @ torch.sin(angle),
        )
        assert abs(float(ahead)) < 0.05
        f0_there_hz = 220.0 + slope * float(since.mean())
        # A drift of this angle in one second would be that many cents.
        cents = 1200 * math.log2(1 + abs(float(ahead)) / (2 * math.pi) / f0_there_hz)
        assert cents < 0.1
