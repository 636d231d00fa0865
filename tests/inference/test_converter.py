"""Conversion as a whole, with a small untrained model."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.errors import UserError
from svc.evaluation.metrics.spectrum import frame_rms
from svc.inference.converter import Converter

HOP = 512


def tone(samples: int, f0_hz: float = 220.5) -> Tensor:
    t = torch.arange(samples, dtype=torch.float64) / 44_100
    return 0.1 * sum(torch.sin(2 * math.pi * f0_hz * k * t) / k for k in range(1, 8)).float()  # type: ignore[union-attr]


@pytest.fixture
def converter(make_converter: Callable[..., Converter]) -> Converter:
    return make_converter()


@pytest.mark.parametrize("samples", [1, 100, 511, 512, 513, 2000, 44_100, 50_001])
def test_keeps_the_length_to_the_sample(converter: Converter, samples: int) -> None:
    converted = converter.convert(tone(samples), 44_100, speaker="anna")
    assert converted.shape == (samples,)
    assert bool(torch.isfinite(converted).all())


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 48_000, 96_000])
def test_other_rates_give_the_same_duration(converter: Converter, rate_hz: int) -> None:
    converted = converter.convert(tone(rate_hz // 2 + 7), rate_hz, speaker="anna")
    assert len(converted) == math.floor((rate_hz // 2 + 7) * 44_100 / rate_hz + 0.5)


def test_a_constant_tone_has_no_seam(
    make_converter: Callable[..., Converter], spec: AudioSpec
) -> None:
    audio = tone(44_100 * 4)
    whole = make_converter().convert(audio, 44_100, speaker="anna")
    pieces = make_converter(max_chunk_s=1.5).convert(audio, 44_100, speaker="anna")
    level_db = 20 * torch.log10(frame_rms(pieces, spec)[20:-20])
    ripple_db = float(level_db.max() - level_db.min())
    assert float(level_db.mean()) > -60
    assert ripple_db < 0.2
    # A click would stand out from the steepest slope of the tone itself.
    assert float(pieces.diff().abs().max()) < 1.05 * float(whole.diff().abs().max())
    torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=0)


def test_is_repeatable_and_depends_on_what_is_asked(converter: Converter) -> None:
    audio = tone(30_000)
    first = converter.convert(audio, 44_100, speaker="anna")
    assert torch.equal(first, converter.convert(audio, 44_100, speaker="anna"))
    for other in ({"speaker": "bert"}, {"speaker": "anna", "pitch_shift_semitones": 0.5}):
        assert not torch.equal(first, converter.convert(audio, 44_100, **other))  # type: ignore[arg-type]


@pytest.mark.parametrize("semitones", [-12.0, 0.0, 3.5, 12.0])
def test_shifts_the_melody(make_converter: Callable[..., Converter], semitones: float) -> None:
    from svc.evaluation.f0_tracker import JudgeTracker

    converted = make_converter().convert(
        tone(22_050), 44_100, speaker="anna", pitch_shift_semitones=semitones
    )
    measured = JudgeTracker().track(converted, AudioSpec())
    wanted_hz = 220.5 * 2 ** (semitones / 12)
    cents = 1200 * torch.log2(measured.f0_hz[measured.voiced] / wanted_hz)
    assert len(cents) > 20
    assert abs(float(cents.median())) < 3


class TestSilence:
    def test_silence_in_silence_out(self, converter: Converter) -> None:
        converted = converter.convert(torch.zeros(10_000), 44_100, speaker="anna")
        assert converted.shape == (10_000,)
        assert not converted.any()

    def test_a_silent_part_stays_silent(self, make_converter: Callable[..., Converter]) -> None:
        audio = torch.cat([tone(44_100), torch.zeros(3 * 44_100), tone(44_100)])
        converted = make_converter(max_chunk_s=1.5).convert(audio, 44_100, speaker="anna")
        silent = slice(44_100 + 4 * HOP, 4 * 44_100 - 4 * HOP)
        assert not converted[silent].any()
        assert converted[:44_100].std() > 1e-4
        assert converted[4 * 44_100 :].std() > 1e-4


class TestRefusals:
    def test_bad_samples_are_counted(self, converter: Converter) -> None:
        audio = tone(1000)
        audio[3], audio[5] = math.nan, math.inf
        with pytest.raises(UserError, match="2 samples that are NaN"):
            converter.convert(audio, 44_100, speaker="anna")

    def test_no_samples(self, converter: Converter) -> None:
        with pytest.raises(UserError, match="no samples"):
            converter.convert(torch.zeros(0), 44_100, speaker="anna")

    @pytest.mark.parametrize("semitones", [-25.0, 24.01, math.nan])
    def test_shift_out_of_range(self, converter: Converter, semitones: float) -> None:
        with pytest.raises(UserError, match=r"pitch_shift=.* between -24 and 24"):
            converter.convert(tone(1000), 44_100, speaker="anna", pitch_shift_semitones=semitones)

    def test_rate_out_of_range(self, converter: Converter) -> None:
        with pytest.raises(UserError, match="sample_rate_hz=0"):
            converter.convert(tone(1000), 0, speaker="anna")

    def test_speaker_must_be_known(self, converter: Converter) -> None:
        with pytest.raises(UserError, match=r"anna, bert\. Did you mean anna\?"):
            converter.convert(tone(1000), 44_100, speaker="ana")
        with pytest.raises(UserError, match=r"choose one of anna, bert"):
            converter.convert(tone(1000), 44_100)

    def test_a_single_speaker_needs_no_name(self, converter: Converter) -> None:
        converter.speakers = ["anna"]
        assert converter.convert(tone(1000), 44_100).shape == (1000,)

    def test_device_and_precision(self, make_converter: Callable[..., Converter]) -> None:
        from svc.inference.devices import choose_device

        with pytest.raises(UserError, match="precision=fp7"):
            make_converter(precision="fp7")
        with pytest.raises(UserError, match="device=cuda:99 is not here"):
            choose_device("cuda:99")
        with pytest.raises(UserError, match="device=toaster is not here"):
            choose_device("toaster")


def test_bf16_is_near_fp32(make_converter: Callable[..., Converter]) -> None:
    audio = tone(30_000)
    exact = make_converter().convert(audio, 44_100, speaker="anna")
    rough = make_converter(precision="bf16").convert(audio, 44_100, speaker="anna")
    error_db = 20 * math.log10(float((rough - exact).std() / exact.std()))
    assert -80 < error_db < -20


def test_progress_rises_to_one(make_converter: Callable[..., Converter]) -> None:
    shares: list[float] = []
    make_converter(max_chunk_s=1.5).convert(
        tone(3 * 44_100), 44_100, speaker="anna", progress=shares.append
    )
    assert shares == sorted(shares)
    assert len(shares) >= 4
    assert shares[-1] == pytest.approx(1.0)


def test_long_recordings_are_analysed_in_windows(
    make_converter: Callable[..., Converter], spec: AudioSpec
) -> None:
    extractors = make_converter().extractors
    audio = tone(400 * HOP)
    whole = extractors.analyse(audio, spec)
    windows = extractors.analyse(audio, spec, max_window_s=1.5)
    assert windows.content.shape == whole.content.shape == (extractors.content.channels, 400)
    assert windows.voiced.shape == windows.energy.shape == (400,)
    inside = slice(5, -5)
    torch.testing.assert_close(windows.f0_hz[inside], whole.f0_hz[inside], rtol=2e-3, atol=0)
