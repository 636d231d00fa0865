"""All numbers about one conversion, with and without a parallel truth."""

from dataclasses import dataclass

import torch
from torch import Tensor

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.evaluation.f0_tracker import JudgeTracker
from svc.evaluation.metrics.f0 import F0Errors, compare_f0
from svc.evaluation.metrics.spectrum import (
    active_frames,
    average_spectrum_distance_db,
    level_difference_db,
    log_mel_l1,
    mel_cepstral_distortion_db,
)


@dataclass(frozen=True)
class ConversionMetrics:
    """A conversion against what the target singer really sang."""

    mcd_source_db: float
    """Mel-cepstral distortion of the unconverted source from the truth."""
    mcd_converted_db: float
    """Mel-cepstral distortion of the conversion from the truth."""
    mcd_reduction_percent: float
    """By how much the conversion is nearer to the truth than the source was."""
    log_mel_l1_source: float
    """Mean absolute difference of natural-log mels, source and truth."""
    log_mel_l1_converted: float
    """Mean absolute difference of natural-log mels, conversion and truth."""
    level_difference_db: float
    """RMS level of the conversion above that of the truth."""
    f0: F0Errors
    """The conversion's measured F0 against the exact one."""
    f0_of_truth: F0Errors
    """The truth's own audio measured in the same way: what the instrument gets wrong."""


@dataclass(frozen=True)
class UnpairedMetrics:
    """A conversion where nobody recorded the truth."""

    timbre_distance_source_db: float
    """Distance of the average spectral envelopes of source and target speaker."""
    timbre_distance_converted_db: float
    """The same for conversion and target speaker."""
    timbre_reduction_percent: float
    """By how much the conversion is nearer to the target speaker than the source was."""
    level_difference_db: float
    """RMS level of the conversion above that of the source."""
    f0: F0Errors
    """F0 measured in the conversion against F0 measured in the source, shifted as wanted."""


def evaluate_pair(
    source: Tensor,
    converted: Tensor,
    truth: Tensor,
    f0_truth_hz: Tensor,
    voiced_truth: Tensor,
    spec: AudioSpec,
    tracker: JudgeTracker | None = None,
) -> ConversionMetrics:
    """Measure a conversion against the exact parallel truth.

    Args:
        source: [T], what went in.
        converted: [T], what came out.
        truth: [T], what the target singer sings.
        f0_truth_hz: [N], N = T // hop_samples, > 0 where voiced.
        voiced_truth: [N] bool.
        tracker: measures F0; by default CREPE tiny on the CPU.

    Raises:
        ValueError: the lengths differ.
    """
    _check_lengths(source, converted, truth, f0_truth_hz, voiced_truth, spec)
    tracker = tracker or JudgeTracker()
    mels = {
        name: _log_mel(audio, spec)
        for name, audio in (("source", source), ("converted", converted), ("truth", truth))
    }
    active = active_frames(truth, spec)
    mcd = {
        name: mel_cepstral_distortion_db(mels[name], mels["truth"], active)
        for name in ("source", "converted")
    }
    measured, of_truth = tracker.track(converted, spec), tracker.track(truth, spec)
    return ConversionMetrics(
        mcd_source_db=mcd["source"],
        mcd_converted_db=mcd["converted"],
        mcd_reduction_percent=_reduction_percent(mcd["source"], mcd["converted"]),
        log_mel_l1_source=log_mel_l1(mels["source"], mels["truth"], active),
        log_mel_l1_converted=log_mel_l1(mels["converted"], mels["truth"], active),
        level_difference_db=level_difference_db(converted, truth),
        f0=compare_f0(measured.f0_hz, measured.voiced, f0_truth_hz, voiced_truth),
        f0_of_truth=compare_f0(of_truth.f0_hz, of_truth.voiced, f0_truth_hz, voiced_truth),
    )


def evaluate_unpaired(
    source: Tensor,
    converted: Tensor,
    target: Tensor,
    spec: AudioSpec,
    pitch_shift_semitones: float = 0.0,
    tracker: JudgeTracker | None = None,
) -> UnpairedMetrics:
    """Measure a conversion of real voices, of which no truth exists.

    Args:
        source: [T], what went in.
        converted: [T], what came out.
        target: [T'], any recording of the target speaker, the longer the better.
        pitch_shift_semitones: the transposition that was asked for.
        tracker: measures F0; by default CREPE tiny on the CPU.

    Raises:
        ValueError: source and conversion differ in length.
    """
    if source.shape != converted.shape or source.ndim != 1:
        raise ValueError(
            f"source {tuple(source.shape)} and converted {tuple(converted.shape)} must be [T]"
        )
    tracker = tracker or JudgeTracker()
    envelopes = {
        name: _log_mel(audio, spec)[:, active_frames(audio, spec)]
        for name, audio in (("source", source), ("converted", converted), ("target", target))
    }
    before = average_spectrum_distance_db(envelopes["source"], envelopes["target"])
    after = average_spectrum_distance_db(envelopes["converted"], envelopes["target"])
    wanted, got = tracker.track(source, spec), tracker.track(converted, spec)
    wanted_hz = wanted.f0_hz * 2 ** (pitch_shift_semitones / 12)
    return UnpairedMetrics(
        timbre_distance_source_db=before,
        timbre_distance_converted_db=after,
        timbre_reduction_percent=_reduction_percent(before, after),
        level_difference_db=level_difference_db(converted, source),
        f0=compare_f0(got.f0_hz, got.voiced, wanted_hz, wanted.voiced),
    )


def _log_mel(audio: Tensor, spec: AudioSpec) -> Tensor:
    with torch.no_grad():
        log_mel: Tensor = MelSpectrogram(spec)(audio.float())
    return log_mel


def _reduction_percent(before: float, after: float) -> float:
    """NaN where there was nothing to reduce."""
    return 100 * (1 - after / before) if before > 0 else float("nan")


def _check_lengths(
    source: Tensor,
    converted: Tensor,
    truth: Tensor,
    f0_truth_hz: Tensor,
    voiced_truth: Tensor,
    spec: AudioSpec,
) -> None:
    samples = truth.shape[-1]
    frames = spec.frames(samples)
    if {source.shape, converted.shape, truth.shape} != {(samples,)}:
        raise ValueError(
            f"source {tuple(source.shape)}, converted {tuple(converted.shape)} and truth "
            f"{tuple(truth.shape)} must all be [T]"
        )
    if {f0_truth_hz.shape, voiced_truth.shape} != {(frames,)}:
        raise ValueError(
            f"f0_truth_hz {tuple(f0_truth_hz.shape)} and voiced_truth "
            f"{tuple(voiced_truth.shape)} must be [{frames}], one value per hop"
        )
