"""`task=vocoder`: recordings made again from their mels."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import track
from torch import Tensor

from svc.audio.io import write_audio
from svc.audio.spec import AudioSpec
from svc.errors import UserError, UserErrors
from svc.evaluation.metrics.pesq import pesq_is_there
from svc.evaluation.plots import MelRow, plot_mel_comparison
from svc.evaluation.tables import write_csv
from svc.evaluation.task import Candidate
from svc.evaluation.vocoder.material import Sample, demo_phrases, recordings
from svc.evaluation.vocoder.scores import Reference, Scorer, VocoderScore
from svc.features.pitch.base import PitchTracker
from svc.models.vocoder import Vocoder

_HEADER = ("vocoder", "mel L1", "F0, cents", "voicing error", "shifted F0, cents", "PESQ")


class CopySynthesis:
    """Gives vocoders the mel and the F0 of recordings, and compares what they make of it.

    Writes `vocoder.csv` (a line per vocoder and sample), `vocoder.md` (means), a picture of the
    mels of the first sample of each kind, and every rendering as a wav.

    Args:
        candidates: the vocoders. One that cannot be had is reported with what it lacks.
        audio: framing and mel that they share.
        pitch: tracks the F0 that they are given.
        checkpoint: for the report alone; the candidates were given it as well.
        phrases: how many held-out demo phrases.
        recordings: folder of recordings to make again as well.
        max_recordings: as many of them, spread evenly over their names; None for all.
        shift_semitones: a second rendering is asked for F0 this far from the mel's.
        seed: of phrases and excitations.
        console: where the progress bar goes; by default the standard error.

    Raises:
        UserError: nothing is to be made again, or a value is out of range.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        audio: AudioSpec,
        pitch: PitchTracker,
        checkpoint: str | None = None,
        phrases: int = 6,
        recordings: str | None = None,
        max_recordings: int | None = None,
        shift_semitones: float = 4.0,
        seed: int = 0,
        console: Console | None = None,
    ) -> None:
        if phrases < 0 or (phrases == 0 and recordings is None):
            raise UserError(
                f"task.phrases={phrases}: give how many demo phrases are made again, or none and "
                f"task.recordings=FOLDER."
            )
        if max_recordings is not None and max_recordings < 1:
            raise UserError(f"task.max_recordings={max_recordings} must be at least 1, or null.")
        if not -24 <= shift_semitones <= 24:
            raise UserError(f"task.shift_semitones={shift_semitones} must be from -24 to 24.")
        if seed < 0:
            raise UserError(f"seed={seed} must be at least 0.")
        self.candidates = candidates
        self.audio = audio
        self.pitch = pitch
        self.checkpoint = checkpoint
        self.phrases = phrases
        self.recordings = recordings
        self.max_recordings = max_recordings
        self.shift_semitones = shift_semitones
        self.seed = seed
        self.console = console or Console(stderr=True)

    def run(self, folder: Path) -> str:
        """Render, measure, write the results into `folder`, and return the table.

        Raises:
            UserError: there is no vocoder, or nothing to render.
        """
        vocoders, missing = self._vocoders()
        samples = [*demo_phrases(self.phrases, self.seed, self.audio)]
        if self.recordings is not None:
            samples += recordings(self.recordings, self.max_recordings, self.audio)
        scorer = Scorer(self.audio, self.shift_semitones, self.seed)
        scores: list[VocoderScore] = []
        drawn: set[str] = set()
        for sample in track(samples, "rendering", console=self.console):
            pitch = self.pitch.track(
                sample.audio, self.audio.sample_rate_hz, self.audio.hop_samples
            )
            reference = scorer.reference(sample, pitch)
            made = {}
            for name, vocoder in vocoders.items():
                made[name] = scorer.rendered(vocoder, reference, 0.0)
                shifted = scorer.rendered(vocoder, reference, self.shift_semitones)
                scores.append(scorer.score(name, reference, made[name], shifted))
            self._write_sounds(folder, sample, made)
            if sample.group not in drawn:
                self._draw(folder, scorer, reference, made, len(drawn))
                drawn.add(sample.group)
        write_csv(folder / "vocoder.csv", [asdict(score) for score in scores])
        text = self._markdown(scores, samples, missing)
        (folder / "vocoder.md").write_text(text, encoding="utf-8")
        return f"{text}\nAll numbers: {folder / 'vocoder.csv'}; sounds: {folder / 'audio'}"

    def _vocoders(self) -> tuple[dict[str, Vocoder], dict[str, str]]:
        """Those that there are, ready to render, and why others are not there."""
        ready: dict[str, Vocoder] = {}
        missing: dict[str, str] = {}
        for candidate in self.candidates:
            try:
                vocoder = candidate.build()
            except UserError as error:
                missing[candidate.name] = " ".join(str(error).split())
            else:
                vocoder.fold_weight_norm()
                ready[candidate.name] = vocoder.eval().requires_grad_(False)
        if not ready:
            raise UserErrors("There is no vocoder:", [f"{n}: {why}" for n, why in missing.items()])
        return ready, missing

    def _write_sounds(self, folder: Path, sample: Sample, made: dict[str, Tensor]) -> None:
        stem = sample.name.rpartition(".")[0] or sample.name
        for name, audio in {"original": sample.audio, **made}.items():
            path = folder / "audio" / sample.group / f"{stem.replace('/', '_')}.{name}.wav"
            write_audio(path, audio, self.audio.sample_rate_hz)

    def _draw(
        self,
        folder: Path,
        scorer: Scorer,
        reference: Reference,
        made: dict[str, Tensor],
        number: int,
    ) -> None:
        rows = [MelRow(f"recording: {reference.sample.name}", reference.mel)]
        rows += [MelRow(name, scorer.mel(audio)) for name, audio in made.items()]
        path = folder / f"vocoder_{number}.png"
        plot_mel_comparison(path, rows, self.audio)

    def _markdown(
        self, scores: Sequence[VocoderScore], samples: Sequence[Sample], missing: dict[str, str]
    ) -> str:
        parts = []
        for group in dict.fromkeys(sample.group for sample in samples):
            lengths = [
                len(s.audio) / self.audio.sample_rate_hz for s in samples if s.group == group
            ]
            parts.append(f"## {len(lengths)} {group}, {sum(lengths):.0f} s")
            lines = [_line(_HEADER), _line(["---", *["---:"] * (len(_HEADER) - 1)])]
            names = dict.fromkeys(score.vocoder for score in scores)
            lines += [
                _summary(name, [s for s in scores if (s.group, s.vocoder) == (group, name)])
                for name in names
            ]
            parts.append("\n".join(lines))
        parts.append(
            f"Means over the samples. Mel L1 in nepers over frames that are not silent; F0 as the "
            f"median distance between what the judge hears in the rendering and in the recording; "
            f"shifted F0 the same for a rendering that was asked for {self.shift_semitones:+g} "
            f"semitones with the mel as it is; wide-band PESQ (ITU-T P.862.2) at 16 kHz."
        )
        parts += [f"{name} did not take part: {why}" for name, why in missing.items()]
        if not pesq_is_there():
            parts.append("PESQ was not measured: the package pesq is missing (extra `eval`).")
        return "\n\n".join(parts) + "\n"


def _summary(name: str, scores: Sequence[VocoderScore]) -> str:
    def mean(of: str, digits: int, factor: float = 1.0, unit: str = "") -> str:
        values = [v for s in scores if math.isfinite(v := getattr(s, of))]
        return f"{factor * fmean(values):.{digits}f}{unit}" if values else "–"

    pesq = mean("pesq_wb", 2) if pesq_is_there() else "not installed"
    return _line(
        [
            name,
            mean("mel_l1", 3),
            mean("f0_median_cents", 1),
            mean("voicing_error_share", 1, 100, " %"),
            mean("shifted_f0_median_cents", 1),
            pesq,
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
