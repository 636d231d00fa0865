"""Audio in, audio in another voice out."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import soxr
import torch
from torch import Tensor
from torch.nn import functional

from svc.audio.decoding import MAX_RATE_HZ
from svc.audio.spec import AudioSpec
from svc.diffusion.samplers.base import Sampler
from svc.errors import UserError
from svc.inference.analysis import Extractors
from svc.inference.chunking import join, of_few_lengths, plan_chunks
from svc.inference.conditioning import check_shift, conditioning_of
from svc.inference.devices import Precision, check_precision, choose_device
from svc.inference.loading import extractors_of, load_model, load_vocoder, singer_of
from svc.inference.output import limit_peaks, matching_gain, silence_gate
from svc.inference.refinement import Refinement, load_refinement
from svc.inference.rendering import Progress, render_chunks
from svc.inference.singers import Singer
from svc.inference.speaker_mixing import (
    Interpolation,
    Voice,
    check_interpolation,
    resolve_voice,
    speaker_input,
)
from svc.models.conditioner import Conditioning
from svc.models.mel_singer import MelSinger

_ANALYSIS_SHARE = 0.2
"""About the share of the time that analysis takes; for the progress alone."""


class Converter:
    """Converts recordings with one model, or with one and a second that refines its mels.

    Args:
        singer: the model and its vocoder; moves to `device`.
        extractors: with the settings that the training data was extracted with.
        spec: framing of the model.
        speakers: names in the order of the model's speaker table.
        device: where the generator runs; the extractors decide for themselves.
        precision: "bf16" runs the networks under autocast; the sine source stays float32.
        max_chunk_s: longest piece that is rendered at once.
        match_level: give each conversion, as a whole, the level of its source.
        refinement: applied between mel and vocoder.
        seed: of all noise. The same input gives the same output.

    Raises:
        UserError: the device does not compute in this precision.
    """

    def __init__(
        self,
        singer: Singer,
        extractors: Extractors,
        spec: AudioSpec,
        speakers: Sequence[str],
        *,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        max_chunk_s: float = 30.0,
        match_level: bool = True,
        refinement: Refinement | None = None,
        seed: int = 0,
    ) -> None:
        self.device = torch.device(device)
        check_precision(precision, self.device)
        singer.to(self.device)
        if refinement is not None:
            refinement.refiner.network.to(self.device)
        self.singer = singer
        self.refinement = refinement
        self.extractors = extractors
        self.spec = spec
        self.speakers = list(speakers)
        self.precision = precision
        self.max_chunk_s = max_chunk_s
        self.match_level = match_level
        self.seed = seed

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str,
        device: str = "auto",
        precision: Precision = "fp32",
        content_model: str | None = None,
        match_level: bool = True,
        sampler: Sampler | None = None,
        steps: int | None = None,
        vocoder: Path | str | None = None,
        refine_checkpoint: Path | str | None = None,
        refine_steps: int = 100,
        seed: int = 0,
        adapters: Sequence[tuple[Path, float]] = (),
    ) -> "Converter":
        """A converter from a training checkpoint alone: it holds model, weights and settings.

        Args:
            path: a .ckpt file.
            device: "auto", "cpu", "cuda", "cuda:1".
            precision: "fp32" or "bf16".
            content_model: folder (or name) of the content encoder's weights, which a checkpoint
                does not hold; None looks where they were in training.
            match_level: give each conversion, as a whole, the level of its source.
            sampler: of a model that samples; None for the one of its training. It also leads the
                refinement where the first model has none.
            steps: of the training's sampler; None for its own number.
            vocoder: a checkpoint to render with in place of the model's own vocoder.
            refine_checkpoint: of a DiffSVC model that refines the mels.
            refine_steps: of its schedule, up to which they are noised.
            seed: of all noise.
            adapters: files that LoRA trainings on this model made, and their scales; see
                `apply_adapters`.

        Raises:
            UserError: a file is not a usable checkpoint, parts do not fit each other, the device
                or precision is not here, or the content encoder's weights are missing or others
                than in training.
        """
        chosen = choose_device(device)
        check_precision(precision, chosen)
        loaded = load_model(path, adapters)
        refines_another = refine_checkpoint is not None and not isinstance(
            loaded.network, MelSinger
        )
        its_own = (None, None) if refines_another else (sampler, steps)
        renderer = None if vocoder is None else load_vocoder(vocoder, loaded.facts.audio).network
        singer = singer_of(loaded, *its_own, renderer)
        refinement = None
        if refine_checkpoint is not None:
            refinement = load_refinement(
                refine_checkpoint,
                loaded,
                refine_steps,
                sampler=sampler,
                sampler_steps=steps,
                device=chosen,
            )
        return cls(
            singer,
            extractors_of(loaded, chosen, content_model),
            loaded.facts.audio,
            loaded.facts.speakers,
            device=chosen,
            precision=precision,
            match_level=match_level,
            refinement=refinement,
            seed=seed,
        )

    @torch.inference_mode()
    def convert(
        self,
        audio: Tensor,
        sample_rate_hz: int,
        *,
        speaker: str | Voice | None = None,
        speaker_interpolation: Interpolation = "linear",
        pitch_shift_semitones: float = 0.0,
        progress: Progress | None = None,
    ) -> Tensor:
        """Convert one recording of any length.

        What is digitally silent stays so. Peaks above -0.9 dBFS are bent to stay below full scale.

        Args:
            audio: [T] float, nominally in [-1, 1].
            sample_rate_hz: rate of `audio`, any from 8 to 192 kHz.
            speaker: whose voice: a name, a mix ("anna:0.7,bert:0.3"), or a curve over time; may be
                None where the model knows just one.
            speaker_interpolation: "linear" or "spherical", between the voices of a mix.
            pitch_shift_semitones: transposition of the melody, -24 to 24, fractions allowed.
            progress: told the finished share, 0 to 1.

        Returns:
            [T'] float32 on the CPU at `spec.sample_rate_hz`, T' = T x rate ratio rounded to the
            nearest; exactly T where the rates are equal.

        Raises:
            UserError: the audio, the speaker or the shift cannot be used.
        """
        voice = self.voice(speaker)
        check_interpolation(speaker_interpolation)
        check_shift(pitch_shift_semitones)
        audio = self._prepare(audio, sample_rate_hz)
        samples, hop = len(audio), self.spec.hop_samples
        padded = functional.pad(audio, (0, -samples % hop))
        gate = silence_gate(padded, hop)
        if not gate.any():
            return torch.zeros(samples)
        analysis = self.extractors.analyse(
            padded, self.spec, progress and _part_of(progress, 0.0, _ANALYSIS_SHARE)
        )
        mixed = partial(
            speaker_input,
            voice,
            frames=len(analysis.f0_hz),
            frame_rate_hz=self.spec.frame_rate_hz,
            interpolation=speaker_interpolation,
        )
        speaker_weights = mixed(self.speakers, self.singer.speaker_table)
        conditioning = conditioning_of(analysis, speaker_weights, pitch_shift_semitones)
        refinement = None
        if self.refinement is not None:
            its_own = mixed(self.refinement.speakers, self.refinement.speaker_table)
            heard = self._refined_conditioning(padded, conditioning, its_own)
            refinement = (self.refinement.refiner, heard)
        chunks = of_few_lengths(
            plan_chunks(
                padded, self.spec, max_chunk_s=self.max_chunk_s, context_frames=self._context_frames
            )
        )
        rendered = render_chunks(
            self.singer,
            conditioning,
            chunks,
            gate,
            self.spec,
            refinement=refinement,
            device=self.device,
            precision=self.precision,
            seed=self.seed,
            progress=progress and _part_of(progress, _ANALYSIS_SHARE, 1.0),
        )
        converted = join(chunks, rendered, hop)[:samples]
        if self.match_level:
            converted *= matching_gain(converted, audio)
        return limit_peaks(converted)

    def voice(self, speaker: str | Voice | None) -> Voice:
        """What `convert` makes of its argument `speaker`.

        Raises:
            UserError: no such speaker, no mix, none named where there are several, or one that
                the refining model does not know.
        """
        voice = resolve_voice(speaker, self.speakers)
        if self.refinement is not None:
            self.refinement.check_voice(voice)
        return voice

    def _prepare(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """Checked and resampled, [T'] float32 on the CPU."""
        if audio.ndim != 1:
            raise ValueError(f"audio {list(audio.shape)} must be [T]")
        if not 0 < sample_rate_hz <= MAX_RATE_HZ:
            raise UserError(
                f"sample_rate_hz={sample_rate_hz} must be above 0 and at most {MAX_RATE_HZ}."
            )
        audio = audio.detach().cpu().float()
        if not len(audio):
            raise UserError("The audio holds no samples.")
        broken = int((~torch.isfinite(audio)).sum())
        if broken:
            raise UserError(
                f"The audio holds {broken} samples that are NaN or infinite. Export it again from "
                f"the program that made it."
            )
        if sample_rate_hz == self.spec.sample_rate_hz:
            return audio
        wanted = math.floor(len(audio) * self.spec.sample_rate_hz / sample_rate_hz + 0.5)
        resampled = torch.from_numpy(
            soxr.resample(audio.numpy(), sample_rate_hz, self.spec.sample_rate_hz, quality="VHQ")
        )
        return functional.pad(resampled, (0, max(1, wanted) - len(resampled)))

    @property
    def _context_frames(self) -> int:
        """Frames on each side of a chunk that its own depend on."""
        refinement = self.refinement
        more = 0 if refinement is None else refinement.refiner.receptive_frames
        return self.singer.receptive_frames + more

    def _refined_conditioning(
        self, audio: Tensor, conditioning: Conditioning, speaker: Tensor
    ) -> Conditioning:
        """What the refining model hears: the same notes, its own content, its own speaker table."""
        assert self.refinement is not None
        if self.refinement.extractors is None:
            return replace(conditioning, speaker=speaker)
        its_own = conditioning_of(
            self.refinement.extractors.analyse(audio, self.spec), speaker, 0.0
        )
        return replace(its_own, f0_hz=conditioning.f0_hz, voiced=conditioning.voiced)


def _part_of(progress: Progress, start: float, stop: float) -> Progress:
    """Progress of a stage as progress of the whole."""
    return lambda share: progress(start + share * (stop - start))
