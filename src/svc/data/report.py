"""What a preparation found, for reading and for `report.json`."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from svc.audio.io import AudioFileError
from svc.data.store import SliceRecord, feature_path
from svc.errors import UserError

_F0_PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class SpeakerReport:
    """The material of one speaker."""

    speaker: str
    recordings: int
    valid_recordings: int
    """Recordings of which something is held out for validation."""
    slices: int
    minutes: float
    """Of both splits."""
    valid_minutes: float
    f0_low_hz: float
    """5th percentile over voiced frames; 0 where nothing is voiced, as for the next two."""
    f0_median_hz: float
    f0_high_hz: float
    """95th percentile."""
    voiced_share: float
    rms_db: float
    """Level over all slices, dB below full scale."""
    peak_db: float
    """Of the loudest slice."""
    clipped_share: float


@dataclass(frozen=True)
class SkippedFile:
    """A recording that could not be used."""

    name: str
    reason: str


def reason_of(error: UserError) -> str:
    """Why a recording cannot be used, without its path, which is told beside it."""
    return error.reason if isinstance(error, AudioFileError) else str(error)


@dataclass(frozen=True)
class PreparationReport:
    """What a preparation found and did."""

    source: str
    folder: Path
    speakers: tuple[SpeakerReport, ...]
    skipped: tuple[SkippedFile, ...]
    notes: tuple[str, ...]
    """Sentences about the split and the material that are worth knowing."""
    extracted_files: int
    """Recordings that this run extracted, wholly or in part."""
    unchanged_files: int
    """Recordings that were there already."""
    removed_files: int
    """Recordings that are no longer in the source, and have left the store."""

    def as_dict(self) -> dict[str, Any]:
        """What `report.json` holds: facts about the dataset, not about this run."""
        return {
            "source": self.source,
            "minutes": round(sum(speaker.minutes for speaker in self.speakers), 3),
            "speakers": [asdict(speaker) for speaker in self.speakers],
            "skipped": [asdict(file) for file in self.skipped],
            "notes": list(self.notes),
        }

    def __rich__(self) -> RenderableType:
        """A table per speaker, the skipped files with reasons, and the notes."""
        table = Table(
            title=f"{self.source}: prepared in {self.folder}",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=0,
            show_edge=False,
        )
        # Eighty columns in all: what does not fit is folded, and a heading takes two lines.
        table.add_column("speaker", overflow="fold")
        for heading in (
            "min",
            "held\nout",
            "files",
            "slices",
            "F0 in Hz\n5-50-95 %",
            "voiced",
            "level\ndB",
            "peak\ndB",
            "clipped",
        ):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self.speakers:
            table.add_row(
                Text(row.speaker),
                f"{row.minutes:.1f}",
                f"{row.valid_minutes:.1f}",
                str(row.recordings),
                str(row.slices),
                f"{row.f0_low_hz:.0f}-{row.f0_median_hz:.0f}-{row.f0_high_hz:.0f}",
                f"{row.voiced_share:.0%}",
                f"{row.rms_db:.1f}",
                f"{row.peak_db:.1f}",
                f"{row.clipped_share:.3%}",
            )
        done = (
            f"{self.extracted_files} recording(s) extracted, {self.unchanged_files} unchanged, "
            f"{self.removed_files} removed, {len(self.skipped)} skipped."
        )
        lines = [Text(done)]
        lines += [Text(f"skipped {file.name}: {file.reason}", "yellow") for file in self.skipped]
        lines += [Text(note) for note in self.notes]
        return Group(table, *lines)


def report_speakers(folder: Path, slices: Sequence[SliceRecord]) -> tuple[SpeakerReport, ...]:
    """Summarise the slices of a store by speaker, sorted by name. Reads their F0."""
    by_speaker: dict[str, list[SliceRecord]] = defaultdict(list)
    for record in slices:
        by_speaker[record.speaker].append(record)
    return tuple(
        _report_speaker(folder, speaker, records) for speaker, records in sorted(by_speaker.items())
    )


def _report_speaker(folder: Path, speaker: str, records: list[SliceRecord]) -> SpeakerReport:
    f0 = np.concatenate(
        [np.load(feature_path(folder, speaker, record.id, "f0")) for record in records]
    )
    voiced_hz = f0[f0 > 0]
    f0_hz = np.percentile(voiced_hz, _F0_PERCENTILES) if len(voiced_hz) else np.zeros(3)
    seconds = np.array([record.duration_s for record in records])
    held_out = np.array([record.split == "valid" for record in records])
    power = 10.0 ** (np.array([record.rms_db for record in records]) / 10)
    clipped = np.array([record.clipped_share for record in records])
    return SpeakerReport(
        speaker=speaker,
        recordings=len({record.source for record in records}),
        valid_recordings=len({record.source for record in records if record.split == "valid"}),
        slices=len(records),
        minutes=round(float(seconds.sum()) / 60, 3),
        valid_minutes=round(float(seconds[held_out].sum()) / 60, 3),
        f0_low_hz=round(float(f0_hz[0]), 1),
        f0_median_hz=round(float(f0_hz[1]), 1),
        f0_high_hz=round(float(f0_hz[2]), 1),
        voiced_share=round(len(voiced_hz) / len(f0), 4),
        rms_db=round(10 * float(np.log10(np.average(power, weights=seconds))), 2),
        peak_db=max(record.peak_db for record in records),
        clipped_share=round(float(np.average(clipped, weights=seconds)), 6),
    )
