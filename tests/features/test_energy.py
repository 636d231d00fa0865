"""Contract of every energy extractor, and the exact values of RMS."""

import math
from pathlib import Path

import pytest
import torch

from features.feature_signals import BAD_INPUTS, HOP, RATE_HZ, sine, vowels
from svc.errors import UserError
from svc.features.energy.base import EnergyExtractor
from svc.features.energy.rms import RmsEnergy


@pytest.mark.parametrize("extractor", [pytest.param(RmsEnergy(), id="rms")])
class TestEveryEnergyExtractor:
    @pytest.mark.parametrize("name", BAD_INPUTS)
    def test_any_input_gives_finite_frames(self, extractor: EnergyExtractor, name: str) -> None:
        audio = BAD_INPUTS[name]
        energy = extractor.measure(audio, HOP)
        assert energy.shape == (audio.shape[0] // HOP,)
        assert energy.dtype == torch.float32
        assert bool(torch.isfinite(energy).all())
        assert bool((energy >= 0).all())

    def test_not_a_number_never_passes_for_one(self, extractor: EnergyExtractor) -> None:
        """The preparation then refuses it; no neighbourhood larger than the window is lost."""
        audio = vowels(1.0)
        audio[20 * HOP] = torch.nan
        finite = extractor.measure(audio, HOP).isfinite()
        assert not bool(finite[20])
        assert bool(finite[:8].all())
        assert bool(finite[33:].all())

    def test_ten_minutes_in_one_piece(self, extractor: EnergyExtractor) -> None:
        audio = torch.full((600 * RATE_HZ,), 0.5)
        energy = extractor.measure(audio, HOP)
        assert energy.shape == (600 * RATE_HZ // HOP,)
        assert float((energy - 0.5).abs().max()) < 1e-4

    def test_twice_as_loud_measures_twice(self, extractor: EnergyExtractor) -> None:
        audio = vowels(1.0)
        torch.testing.assert_close(
            extractor.measure(2 * audio, HOP), 2 * extractor.measure(audio, HOP)
        )

    def test_frames_follow_the_hop_grid(self, extractor: EnergyExtractor) -> None:
        """The middle of a burst is measured where the burst is."""
        audio = torch.zeros(60 * HOP)
        audio[20 * HOP : 31 * HOP] = 0.5
        energy = extractor.measure(audio, HOP)
        centre = (energy * torch.arange(60)).sum() / energy.sum()
        assert float(centre) == pytest.approx(25.0, abs=0.01)

    def test_shifting_by_hops_shifts_the_frames(self, extractor: EnergyExtractor) -> None:
        audio = vowels(1.0)
        torch.testing.assert_close(
            extractor.measure(audio[7 * HOP :], HOP)[8:], extractor.measure(audio, HOP)[15:]
        )


class TestRms:
    @pytest.mark.parametrize("frequency_hz", [100.0, 440.0, 3000.0])
    def test_a_sine_measures_amplitude_over_root_two(self, frequency_hz: float) -> None:
        energy = RmsEnergy().measure(sine(frequency_hz, 1.0, amplitude=0.8), HOP)
        torch.testing.assert_close(
            energy[2:-2], torch.full_like(energy[2:-2], 0.8 / math.sqrt(2)), rtol=2e-3, atol=0
        )

    @pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 50])
    def test_a_constant_is_level_to_the_edges(self, frames: int) -> None:
        energy = RmsEnergy().measure(torch.full((frames * HOP,), -0.3), HOP)
        torch.testing.assert_close(energy, torch.full((frames,), 0.3))

    @pytest.mark.parametrize("window_hops", [1, 2, 3, 4])
    def test_equals_the_definition(self, window_hops: int) -> None:
        audio = vowels(0.5)
        window = torch.hann_window(window_hops * HOP + 1)[1:]
        centre = 20 * HOP + HOP // 2
        span = audio[centre - window_hops * HOP // 2 :][: window_hops * HOP]
        expected = ((span.square() * window).sum() / window.sum()).sqrt()
        energy = RmsEnergy(window_hops).measure(audio, HOP)
        torch.testing.assert_close(energy[20], expected)

    def test_follows_the_predecessors_energy(self, shared: Path) -> None:
        golden = torch.load(shared / "golden" / "features_small.pt", weights_only=True)
        energy = RmsEnergy().measure(golden["wav"][0], HOP)
        theirs = golden["energy"][: energy.shape[0]]
        assert float(torch.corrcoef(torch.stack([energy, theirs]))[0, 1]) > 0.99
        assert float((energy / theirs).median()) == pytest.approx(1.0, abs=0.01)

    def test_a_window_shorter_than_a_hop_is_refused(self) -> None:
        with pytest.raises(UserError, match="window_hops=0"):
            RmsEnergy(window_hops=0)


def test_ten_minutes_in_one_piece() -> None:
    assert RmsEnergy().measure(torch.ones(600 * RATE_HZ), HOP).shape == (600 * RATE_HZ // HOP,)
