"""Exact invariants of every metric."""

import math

import pytest
import torch

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.evaluation.metrics.f0 import compare_f0
from svc.evaluation.metrics.spectrum import (
    active_frames,
    average_spectrum_distance_db,
    frame_rms,
    level_difference_db,
    log_mel_l1,
    mel_cepstra,
    mel_cepstral_distortion_db,
)

SPEC = AudioSpec()
ALL = torch.ones(40, dtype=torch.bool)


@pytest.fixture
def log_mel() -> torch.Tensor:
    return 0.3 * torch.randn(128, 40, generator=torch.Generator().manual_seed(1)) - 4


def ripple(order: int, height: float) -> torch.Tensor:
    """[128, 1]: a cosine over the mel axis."""
    position = (torch.arange(128) + 0.5) / 128
    return height * torch.cos(math.pi * order * position)[:, None]


class TestMelCepstralDistortion:
    def test_is_zero_at_identity(self, log_mel: torch.Tensor) -> None:
        assert mel_cepstral_distortion_db(log_mel, log_mel, ALL) == 0.0

    def test_ignores_gain(self, log_mel: torch.Tensor) -> None:
        assert mel_cepstral_distortion_db(log_mel + 1.5, log_mel, ALL) == pytest.approx(0, abs=1e-5)

    @pytest.mark.parametrize("order", [1, 7, 24])
    def test_is_the_rms_of_a_ripple_in_db(self, log_mel: torch.Tensor, order: int) -> None:
        six_db = math.log(10 ** (6 / 20))
        distortion = mel_cepstral_distortion_db(log_mel + ripple(order, six_db), log_mel, ALL)
        assert distortion == pytest.approx(6 / math.sqrt(2), rel=1e-4)

    def test_ignores_what_is_finer_than_its_order(self, log_mel: torch.Tensor) -> None:
        distortion = mel_cepstral_distortion_db(log_mel + ripple(25, 1.0), log_mel, ALL)
        assert distortion == pytest.approx(0, abs=1e-5)

    def test_averages_over_active_frames_only(self, log_mel: torch.Tensor) -> None:
        changed = log_mel.clone()
        changed[:, :10] += ripple(3, 1.0)
        assert mel_cepstral_distortion_db(changed, log_mel, torch.arange(40) >= 10) == 0.0
        half = mel_cepstral_distortion_db(changed, log_mel, torch.arange(40) < 20)
        whole = mel_cepstral_distortion_db(changed, log_mel, torch.arange(40) < 10)
        assert half == pytest.approx(whole / 2, rel=1e-6)

    def test_ignores_what_is_60_db_below_the_loudest(self, log_mel: torch.Tensor) -> None:
        black, hissing = log_mel.clone(), log_mel.clone()
        black[60:] = -11.5
        hissing[60:] = float(log_mel.max()) - math.log(10 ** (61 / 20))
        assert mel_cepstral_distortion_db(hissing, black, ALL) == pytest.approx(0, abs=1e-5)
        hissing[60:] += math.log(10 ** (7 / 20))
        assert mel_cepstral_distortion_db(hissing, black, ALL) > 1

    def test_is_nan_without_active_frames(self, log_mel: torch.Tensor) -> None:
        assert math.isnan(mel_cepstral_distortion_db(log_mel, log_mel, ~ALL))

    def test_refuses_other_lengths(self, log_mel: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"same shape"):
            mel_cepstral_distortion_db(log_mel[:, :-1], log_mel, ALL)

    def test_cepstra_rebuild_a_smooth_spectrum(self) -> None:
        smooth = ripple(2, 0.7) + ripple(5, -0.3)
        wanted = torch.zeros(24, 1, dtype=torch.float64)
        wanted[1], wanted[4] = 0.7, -0.3
        torch.testing.assert_close(mel_cepstra(smooth), wanted, atol=1e-6, rtol=0)

    def test_ignores_gain_on_audio(self) -> None:
        audio = torch.randn(44_100, generator=torch.Generator().manual_seed(2)) * 0.3
        mel = MelSpectrogram(SPEC)
        active = active_frames(audio, SPEC)
        distortion = mel_cepstral_distortion_db(mel(audio * 0.5), mel(audio), active)
        assert distortion == pytest.approx(0, abs=1e-3)
        assert log_mel_l1(mel(audio * 0.5), mel(audio), active) == pytest.approx(
            math.log(2), rel=1e-3
        )


def test_average_spectrum_distance_is_that_of_the_envelopes(log_mel: torch.Tensor) -> None:
    shuffled = log_mel[:, torch.randperm(40, generator=torch.Generator().manual_seed(3))]
    assert average_spectrum_distance_db(shuffled, log_mel) == pytest.approx(0, abs=1e-5)
    six_db = math.log(10 ** (6 / 20))
    distance = average_spectrum_distance_db(shuffled + ripple(4, six_db), log_mel)
    assert distance == pytest.approx(6 / math.sqrt(2), rel=1e-4)
    assert math.isnan(average_spectrum_distance_db(log_mel, log_mel[:, :0]))


class TestLevel:
    def test_known_gain(self) -> None:
        audio = torch.sin(torch.arange(5000) * 0.05)
        assert level_difference_db(audio * 10 ** (-7.5 / 20), audio) == pytest.approx(-7.5)
        assert level_difference_db(audio, audio) == 0.0

    def test_silence(self) -> None:
        audio, silence = torch.ones(8), torch.zeros(8)
        assert level_difference_db(silence, audio) == -math.inf
        assert level_difference_db(audio, silence) == math.inf
        assert level_difference_db(silence, silence) == 0.0

    def test_frame_rms_of_a_step(self) -> None:
        audio = torch.cat([torch.zeros(512), torch.full((512,), -0.25), torch.ones(100)])
        torch.testing.assert_close(frame_rms(audio, SPEC), torch.tensor([0.0, 0.25]))

    def test_active_frames_are_relative_to_the_loudest(self) -> None:
        levels = torch.tensor([1.0, 0.0032, 0.0031, 0.0])
        audio = levels.repeat_interleave(512) * 0.01
        assert active_frames(audio, SPEC).tolist() == [True, True, False, False]
        assert not active_frames(torch.zeros(2048), SPEC).any()
        assert active_frames(torch.zeros(10), SPEC).shape == (0,)


class TestF0:
    def test_identity(self) -> None:
        f0 = torch.tensor([100.0, 200.0, 300.0])
        voiced = torch.tensor([True, True, False])
        errors = compare_f0(f0, voiced, f0, voiced)
        assert errors.median_abs_cents == 0.0
        assert errors.share_within_50_cents == 1.0
        assert errors.gross_error_share == 0.0
        assert errors.voicing_error_share == 0.0
        assert errors.frames_compared == 2

    def test_known_shift(self) -> None:
        f0 = torch.full((9,), 220.0)
        voiced = torch.ones(9, dtype=torch.bool)
        flat = compare_f0(f0 * 2 ** (-20 / 1200), voiced, f0, voiced)
        assert flat.median_abs_cents == pytest.approx(20, abs=1e-3)
        assert flat.share_within_50_cents == 1.0
        octave = compare_f0(f0 * 2, voiced, f0, voiced)
        assert octave.median_abs_cents == pytest.approx(1200)
        assert octave.gross_error_share == 1.0

    def test_voicing_counts_every_frame(self) -> None:
        f0 = torch.full((8,), 220.0)
        voiced = torch.arange(8) < 4
        truth_voiced = torch.arange(8) < 5
        errors = compare_f0(f0, voiced, f0, truth_voiced)
        assert errors.voicing_error_share == pytest.approx(1 / 8)
        assert errors.frames_compared == 4

    def test_nothing_in_common_is_nan(self) -> None:
        voiced = torch.tensor([True, False])
        errors = compare_f0(torch.ones(2), voiced, torch.ones(2), ~voiced)
        assert math.isnan(errors.median_abs_cents)
        assert errors.voicing_error_share == 1.0

    def test_refuses_nonsense(self) -> None:
        voiced = torch.ones(2, dtype=torch.bool)
        with pytest.raises(ValueError, match="same length"):
            compare_f0(torch.ones(3), voiced, torch.ones(2), voiced)
        with pytest.raises(ValueError, match="positive"):
            compare_f0(torch.zeros(2), voiced, torch.ones(2), voiced)
