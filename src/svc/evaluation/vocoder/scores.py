"""How close a vocoder's rendering comes to the recording whose mel it was given."""

import math
from dataclasses import dataclass

from torch import Tensor

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.evaluation.f0_tracker import JudgeTracker, MeasuredPitch
from svc.evaluation.metrics.f0 import F0Errors, compare_f0
from svc.evaluation.metrics.pesq import pesq_is_there, pesq_wideband
from svc.evaluation.metrics.spectrum import active_frames, log_mel_l1
from svc.evaluation.vocoder.material import Sample
from svc.features.pitch.base import Pitch
from svc.inference.vocoding import render_mel
from svc.models.vocoder import Vocoder


@dataclass(frozen=True)
class VocoderScore:
    """A vocoder on one sample; NaN where a number does not exist."""

    group: str
    sample: str
    vocoder: str
    mel_l1: float
    """Mean absolute difference of the natural-log mels over frames that are not silent."""
    f0_median_cents: float
    """Median distance of the rendering's F0 from the recording's, both tracked by the judge."""
    voicing_error_share: float
    shifted_f0_median_cents: float
    """The same where the vocoder was asked for another F0 than its mel has."""
    shifted_f0_gross_share: float
    """Share of the frames voiced in both that are then more than half an octave off."""
    pesq_wb: float
    """Wide-band PESQ."""


@dataclass(frozen=True)
class Reference:
    """A sample as the judges and the vocoders see it."""

    sample: Sample
    mel: Tensor
    """[M, N]."""
    pitch: Pitch
    """What the vocoders are given."""
    judged: MeasuredPitch
    """What the judge hears in the recording."""


class Scorer:
    """Renders and measures.

    Args:
        spec: framing and mel.
        shift_semitones: by how much the second rendering's F0 differs from its mel's.
        seed: of the excitation.
    """

    def __init__(self, spec: AudioSpec, shift_semitones: float, seed: int) -> None:
        self.spec = spec
        self.shift_semitones = shift_semitones
        self.seed = seed
        self._mel = MelSpectrogram(spec)
        self._judge = JudgeTracker()

    def reference(self, sample: Sample, pitch: Pitch) -> Reference:
        """What does not depend on the vocoder."""
        return Reference(
            sample, self._mel(sample.audio), pitch, self._judge.track(sample.audio, self.spec)
        )

    def mel(self, audio: Tensor) -> Tensor:
        """[T] -> [M, N]."""
        mel: Tensor = self._mel(audio)
        return mel

    def rendered(self, vocoder: Vocoder, reference: Reference, semitones: float) -> Tensor:
        """[T], the reference's mel with its F0 shifted."""
        return render_mel(
            vocoder,
            reference.mel,
            reference.pitch.f0_hz * 2 ** (semitones / 12),
            reference.pitch.voiced,
            self.spec,
            seed=self.seed,
        )

    def score(
        self, name: str, reference: Reference, audio: Tensor, shifted: Tensor
    ) -> VocoderScore:
        """A rendering of a reference, and one with shifted F0."""
        truth = reference.sample.audio
        errors = self._f0_errors(audio, reference, 0.0)
        away = self._f0_errors(shifted, reference, self.shift_semitones)
        return VocoderScore(
            group=reference.sample.group,
            sample=reference.sample.name,
            vocoder=name,
            mel_l1=log_mel_l1(self._mel(audio), reference.mel, active_frames(truth, self.spec)),
            f0_median_cents=errors.median_abs_cents,
            voicing_error_share=errors.voicing_error_share,
            shifted_f0_median_cents=away.median_abs_cents,
            shifted_f0_gross_share=away.gross_error_share,
            pesq_wb=pesq_wideband(audio, truth, self.spec.sample_rate_hz)
            if pesq_is_there()
            else math.nan,
        )

    def _f0_errors(self, audio: Tensor, reference: Reference, semitones: float) -> F0Errors:
        heard, wanted = self._judge.track(audio, self.spec), reference.judged
        ratio = 2 ** (semitones / 12)
        return compare_f0(heard.f0_hz, heard.voiced, wanted.f0_hz * ratio, wanted.voiced)
