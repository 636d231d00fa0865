"""Trackers against each other, on recordings whose F0 nobody knows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from svc.audio.io import AudioFileError, read_audio
from svc.evaluation.pitch.contenders import Contender
from svc.evaluation.pitch.metrics import interval_cents, is_close, is_octave_error
from svc.features.pitch.base import Pitch

_JOIN_S = 0.1
"""Disagreements closer together than this are one."""
_SPANS = 5
"""Longest disagreements that are told of per file."""

Pair = tuple[str, str]


@dataclass
class AgreementCounts:
    """Frames of two trackers side by side, added up over files."""

    frames: int = 0
    both_voiced: int = 0
    close: int = 0
    """Of those that both call voiced: within 50 cents."""
    octave: int = 0
    """Of those that both call voiced: whole octaves apart, to within 50 cents."""
    voicing_differs: int = 0
    """Of all frames."""

    def add(self, other: "AgreementCounts") -> None:
        """Count another file's frames in."""
        self.frames += other.frames
        self.both_voiced += other.both_voiced
        self.close += other.close
        self.octave += other.octave
        self.voicing_differs += other.voicing_differs

    @property
    def within_50_cents(self) -> float:
        """Share of the frames that both call voiced; NaN where there are none."""
        return self.close / self.both_voiced if self.both_voiced else math.nan

    @property
    def octave_disagreement(self) -> float:
        """Share of the frames that both call voiced; NaN where there are none."""
        return self.octave / self.both_voiced if self.both_voiced else math.nan

    @property
    def voicing_disagreement(self) -> float:
        """Share of all frames; NaN where there are none."""
        return self.voicing_differs / self.frames if self.frames else math.nan


@dataclass(frozen=True)
class Span:
    """A stretch in which trackers that hear a voice do not hear the same pitch."""

    start_s: float
    stop_s: float
    f0_hz: dict[str, float]
    """By tracker, the median F0 of the stretch where it calls it voiced; NaN where nowhere."""


@dataclass(frozen=True)
class FileAgreement:
    """How far trackers agree on one recording."""

    name: str
    """Path relative to the folder."""
    duration_s: float
    disputed_share: float
    """Of the frames that two or more trackers call voiced, the share in which any two of those are
    50 cents or more apart; NaN where there are none."""
    disputed_s: float
    """The same frames in seconds."""
    spans: tuple[Span, ...]
    """The longest disagreements, in their order in time."""


@dataclass
class Agreement:
    """What a folder of recordings gave."""

    pairs: dict[Pair, AgreementCounts]
    files: list[FileAgreement] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of the files that could not be read."""

    def worst_first(self) -> list[FileAgreement]:
        """The files by how many seconds of them are disputed."""
        return sorted(self.files, key=lambda file: (-file.disputed_s, file.name))


def measure_agreement(
    contenders: Sequence[Contender],
    files: Sequence[Path],
    folder: Path,
    sample_rate_hz: int,
    hop_samples: int,
    advance: Callable[[Path], None] | None = None,
) -> Agreement:
    """Let every tracker hear every file; one that cannot be read is named with its reason.

    Args:
        contenders: two trackers or more; their clocks run on.
        files: recordings.
        folder: names of files are told relative to it.
        sample_rate_hz: at which the files are heard.
        hop_samples: the frame grid.
        advance: called after each file.
    """
    names = [contender.name for contender in contenders]
    result = Agreement({pair: AgreementCounts() for pair in combinations(names, 2)})
    for file in files:
        name = file.relative_to(folder).as_posix()
        try:
            audio = read_audio(file, sample_rate_hz)
        except AudioFileError as error:
            result.skipped.append((name, error.reason))
        else:
            contours = {c.name: c.track(audio, sample_rate_hz, hop_samples) for c in contenders}
            for (one, other), counts in result.pairs.items():
                counts.add(compare(contours[one], contours[other]))
            result.files.append(
                file_agreement(name, contours, frame_rate_hz=sample_rate_hz / hop_samples)
            )
        if advance is not None:
            advance(file)
    return result


def compare(one: Pitch, other: Pitch) -> AgreementCounts:
    """Two contours of [N] frames, frame by frame."""
    cents = interval_cents(one, other)
    both = one.voiced & other.voiced
    return AgreementCounts(
        frames=len(both),
        both_voiced=int(both.sum()),
        close=int((is_close(cents) & both).sum()),
        octave=int((is_octave_error(cents) & both).sum()),
        voicing_differs=int((one.voiced != other.voiced).sum()),
    )


def file_agreement(name: str, contours: dict[str, Pitch], frame_rate_hz: float) -> FileAgreement:
    """Where the contours [N] of two or more trackers of one recording differ."""
    f0_hz = torch.stack([contour.f0_hz for contour in contours.values()]).double()
    voiced = torch.stack([contour.voiced for contour in contours.values()])
    compared = voiced.sum(dim=0) >= 2
    # Any two are that far apart exactly where the highest and the lowest are.
    highest = torch.where(voiced, f0_hz, 0.0).amax(dim=0)
    lowest = torch.where(voiced, f0_hz, torch.inf).amin(dim=0)
    cents = torch.zeros_like(highest)
    cents[compared] = 1200 * torch.log2(highest[compared] / lowest[compared])
    disputed = ~is_close(cents)
    count, of = int(disputed.sum()), int(compared.sum())
    spans = [
        Span(
            start_s=start / frame_rate_hz,
            stop_s=stop / frame_rate_hz,
            f0_hz={name: _median_hz(c, start, stop) for name, c in contours.items()},
        )
        for start, stop in _stretches(disputed, join_frames=round(_JOIN_S * frame_rate_hz))
    ]
    longest = sorted(spans, key=lambda span: span.start_s - span.stop_s)[:_SPANS]
    return FileAgreement(
        name=name,
        duration_s=len(disputed) / frame_rate_hz,
        disputed_share=count / of if of else math.nan,
        disputed_s=count / frame_rate_hz,
        spans=tuple(sorted(longest, key=lambda span: span.start_s)),
    )


def _stretches(disputed: Tensor, join_frames: int) -> list[tuple[int, int]]:
    """[start, stop) of the runs of True in [N] bool, joined over gaps of up to `join_frames`."""
    runs: list[tuple[int, int]] = []
    for frame in torch.nonzero(disputed)[:, 0].tolist():
        if runs and frame - runs[-1][1] <= join_frames:
            runs[-1] = (runs[-1][0], frame + 1)
        else:
            runs.append((frame, frame + 1))
    return runs


def _median_hz(contour: Pitch, start: int, stop: int) -> float:
    heard = contour.f0_hz[start:stop][contour.voiced[start:stop]]
    return float(heard.median()) if len(heard) else math.nan
