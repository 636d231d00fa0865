"""Gate and limiter."""

import pytest
import torch

from svc.inference.output import apply_gate, limit_peaks, matching_gain, silence_gate

HOP = 512


class TestGate:
    def test_shuts_only_well_inside_silence(self) -> None:
        audio = torch.full((30 * HOP,), 0.01)
        audio[10 * HOP : 20 * HOP] = 2.0**-16
        assert silence_gate(audio, HOP).tolist() == [1.0] * 12 + [0.0] * 6 + [1.0] * 12

    def test_leaves_short_pauses_and_soft_sounds(self) -> None:
        audio = torch.full((30 * HOP,), 0.01)
        audio[10 * HOP : 14 * HOP] = 0
        audio[20 * HOP :] = 2.0**-14
        assert bool(silence_gate(audio, HOP).all())

    def test_opens_without_a_step_before_the_sound(self) -> None:
        gate = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
        shaped = apply_gate(torch.ones(6 * HOP), gate)
        assert float(shaped.diff().abs().max()) < 2 / HOP
        # The sound begins two frames after the gate opens.
        assert bool((shaped[3 * HOP : 4 * HOP] == 1).all())
        assert not shaped[:HOP].any()


class TestLimiter:
    def test_leaves_what_is_below_the_knee(self) -> None:
        audio = torch.linspace(-0.9, 0.9, 101)
        assert torch.equal(limit_peaks(audio), audio)
        assert limit_peaks(torch.zeros(0)).shape == (0,)

    def test_bends_peaks_below_the_ceiling_in_order(self) -> None:
        audio = torch.linspace(-1.2, 1.2, 2001)
        limited = limit_peaks(audio)
        assert float(limited.abs().max()) <= 0.999
        assert bool((limited.diff() > 0).all())
        assert float(limited.diff().diff().abs().max()) < 1e-4  # no corner
        torch.testing.assert_close(limited, -limited.flip(0))


class TestLevel:
    @pytest.mark.parametrize("quieter_db", [-12.0, 0.0, 20.0])
    def test_gain_makes_up_for_a_difference(self, quieter_db: float) -> None:
        reference = torch.randn(5000, generator=torch.Generator().manual_seed(0))
        audio = reference[:3000] * 10 ** (-quieter_db / 20)
        expected = float(reference.square().mean().sqrt() / audio.square().mean().sqrt())
        assert matching_gain(audio, reference) == pytest.approx(expected, rel=1e-5)

    def test_gain_is_limited_and_silence_stays(self) -> None:
        loud, faint = torch.ones(100), torch.full((100,), 1e-3)
        assert matching_gain(faint, loud) == pytest.approx(10 ** (30 / 20))
        assert matching_gain(loud, faint) == pytest.approx(10 ** (-30 / 20))
        for audio, reference in ((torch.zeros(100), loud), (loud, torch.zeros(100))):
            assert matching_gain(audio, reference) == 1.0
        assert matching_gain(torch.zeros(0), loud) == 1.0
