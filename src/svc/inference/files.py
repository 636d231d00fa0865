"""Files and folders through a converter."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from svc.audio.io import (
    AudioFileError,
    Subtype,
    output_container,
    probe,
    read_audio,
    write_audio,
)
from svc.audio.spec import AudioSpec
from svc.errors import UserError, UserErrors
from svc.inference.conditioning import check_shift
from svc.inference.file_plan import plan_files
from svc.inference.rendering import Progress as OnProgress
from svc.inference.speaker_mixing import Interpolation, Voice, check_interpolation

_LISTED = 20
"""Faults that a message lists before it counts the rest."""


class AudioConverter(Protocol):
    """What converting files needs of `svc.inference.converter.Converter`."""

    spec: AudioSpec

    def voice(self, speaker: str | Voice | None) -> Voice:
        """The voice that is asked for, or a UserError."""

    def convert(
        self,
        audio: Tensor,
        sample_rate_hz: int,
        *,
        speaker: str | Voice | None = None,
        speaker_interpolation: Interpolation = "linear",
        pitch_shift_semitones: float = 0.0,
        progress: OnProgress | None = None,
    ) -> Tensor:
        """[T] to [T']."""


@dataclass(frozen=True)
class ConvertedFile:
    """A file that was converted."""

    source: Path
    output: Path
    duration_s: float
    """Length of the recording."""


@dataclass(frozen=True)
class SkippedFile:
    """A file that was not converted."""

    source: Path
    reason: str
    """What is wrong and what to do."""


@dataclass(frozen=True)
class ConversionReport:
    """What became of every file."""

    converted: list[ConvertedFile]
    skipped: list[SkippedFile]
    seconds: float
    """How long it took."""

    @property
    def audio_s(self) -> float:
        """Seconds of audio converted."""
        return sum(file.duration_s for file in self.converted)

    def summary(self) -> str:
        """A few lines for the terminal."""
        speed = f", {self.audio_s / self.seconds:.1f} x real time" if self.seconds > 0 else ""
        count = len(self.converted)
        lines = [
            f"Converted {count} file{'s' * (count != 1)}: {self.audio_s:.1f} s of audio in "
            f"{self.seconds:.1f} s{speed}."
        ]
        if count:
            lines.append(f"Written to {_common_place([file.output for file in self.converted])}")
        if self.skipped:
            lines.append(f"Not converted: {len(self.skipped)}")
            lines += [f"  - {fault}" for fault in _listed(self.skipped)]
        return "\n".join(lines)


def convert_files(
    converter: AudioConverter,
    input_path: Path,
    output_path: Path | None = None,
    *,
    speaker: str | Voice | None = None,
    speaker_interpolation: Interpolation = "linear",
    pitch_shift_semitones: float = 0.0,
    output_format: Literal["wav", "flac"] = "wav",
    subtype: Subtype = "PCM_16",
    overwrite: bool = True,
    console: Console | None = None,
) -> ConversionReport:
    """Convert a recording, or every recording in a folder and its subfolders.

    A file that cannot be read is named with its reason and does not stop the others. Every output
    appears under its name when it is whole.

    Args:
        converter: with a model.
        input_path: a file or a folder.
        output_path: for a file, a file that ends in .wav or .flac, or a folder; for a folder, a
            folder, in which the names are those of the input. None puts a file beside its input as
            NAME_SPEAKER.wav, and a folder beside its input as NAME_SPEAKER, with the label of a
            mix or of a curve for SPEAKER.
        speaker: whose voice: a name, a mix, or a curve, which starts anew with every file; may be
            None where the model knows just one.
        speaker_interpolation: between the voices of a mix.
        pitch_shift_semitones: transposition of the melody.
        output_format: of files whose name is not given.
        subtype: how samples are stored.
        overwrite: False skips what exists already.
        console: where the progress bar goes; by default the standard error.

    Raises:
        UserError: nothing could be converted, or the arguments do not fit; an output would replace
            its input.
    """
    voice = converter.voice(speaker)
    check_interpolation(speaker_interpolation)
    check_shift(pitch_shift_semitones)
    jobs = plan_files(input_path, output_path, voice.label, output_format)
    for output in {output.suffix: output for _, output in jobs}.values():
        output_container(output, subtype)
    durations_s = [_duration_s(source) for source, _ in jobs]
    converted: list[ConvertedFile] = []
    skipped: list[SkippedFile] = []
    began = time.perf_counter()
    with _progress_bar(console or Console(stderr=True)) as bar:
        task = bar.add_task("", total=sum(durations_s))
        for number, (source, output) in enumerate(jobs, start=1):
            before_s, length_s = sum(durations_s[: number - 1]), durations_s[number - 1]
            bar.update(task, description=f"{number}/{len(jobs)} {source.name}", completed=before_s)
            show = partial(_show, bar, task, before_s, length_s)
            try:
                if output.exists() and not overwrite:
                    raise UserError(f"{output} exists already; overwrite=true replaces it.")
                audio = read_audio(source, converter.spec.sample_rate_hz)
                result = converter.convert(
                    audio,
                    converter.spec.sample_rate_hz,
                    speaker=voice,
                    speaker_interpolation=speaker_interpolation,
                    pitch_shift_semitones=pitch_shift_semitones,
                    progress=show,
                )
                write_audio(output, result, converter.spec.sample_rate_hz, subtype)
            except UserError as error:
                reason = error.reason if isinstance(error, AudioFileError) else str(error)
                skipped.append(SkippedFile(source, reason))
            else:
                duration_s = len(result) / converter.spec.sample_rate_hz
                converted.append(ConvertedFile(source, output, duration_s))
        bar.update(task, completed=sum(durations_s))
    if not converted:
        raise UserErrors(f"input={input_path}: nothing was converted.", _listed(skipped))
    return ConversionReport(converted, skipped, time.perf_counter() - began)


def _show(bar: Progress, task: TaskID, before_s: float, length_s: float, share: float) -> None:
    bar.update(task, completed=before_s + share * length_s)


def _duration_s(path: Path) -> float:
    """For the progress bar: a file that cannot be read takes no time."""
    try:
        return probe(path).duration_s
    except AudioFileError:
        return 0.0


def _progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _listed(skipped: Sequence[SkippedFile]) -> list[str]:
    lines = [f"{file.source}: {file.reason}" for file in skipped[:_LISTED]]
    if len(skipped) > _LISTED:
        lines.append(f"and {len(skipped) - _LISTED} more")
    return lines


def _common_place(paths: Sequence[Path]) -> Path:
    return paths[0] if len(paths) == 1 else Path(os.path.commonpath(paths))
