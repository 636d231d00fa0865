"""`task=pitch`: trackers against exact F0, or against each other on one's own recordings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from svc.audio.io import AUDIO_SUFFIXES, find_audio_files
from svc.data.demo.performance import SAMPLE_RATE_HZ
from svc.errors import UserError, UserErrors
from svc.evaluation.machine import machine
from svc.evaluation.pitch import tables
from svc.evaluation.pitch.accuracy import measure_accuracy
from svc.evaluation.pitch.agreement import measure_agreement
from svc.evaluation.pitch.conditions import Condition
from svc.evaluation.pitch.contenders import Contender, Missing, chosen, make_ready
from svc.evaluation.pitch.material import passages
from svc.evaluation.pitch.plots import plot_accuracy, plot_agreement
from svc.evaluation.tables import write_csv, write_json
from svc.evaluation.task import Candidate


class PitchComparison:
    """Compares pitch trackers.

    Without recordings, synthetic voices of exact F0 are made from a seed, and every tracker is
    scored on them under every condition: `accuracy.json`, `.csv`, `.md`, `.png`. With a folder of
    recordings, whose truth nobody knows, the trackers are compared with each other:
    `agreement.json`, `.csv`, `.md`, `.png`, and the spans in which they differ.

    Args:
        candidates: the trackers there are.
        trackers: names of those to compare; None for all. One that lacks weights or a package is
            reported with what it lacks.
        recordings: a folder (searched with its subfolders) or one recording; None for synthetic
            voices.
        minutes: of synthetic voices, before conditions multiply it.
        conditions: by name, what is done to the synthetic voices.
        sample_rate_hz: at which trackers hear; synthetic voices have 44 100.
        hop_samples: frame grid of the contours.
        seed: of voices, rooms and noise.
        console: where the progress bar goes; by default the standard error.

    Raises:
        UserError: a name that no tracker has, no condition, or a sample rate without truth.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        conditions: Mapping[str, Condition],
        trackers: list[str] | None = None,
        recordings: str | None = None,
        minutes: float = 0.8,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        hop_samples: int = 512,
        seed: int = 0,
        console: Console | None = None,
    ) -> None:
        self.candidates = chosen(candidates, trackers)
        self.conditions = dict(conditions)
        self.recordings = None if recordings is None else Path(recordings).expanduser()
        self.minutes = minutes
        self.sample_rate_hz = sample_rate_hz
        self.hop_samples = hop_samples
        self.seed = seed
        self.console = console or Console(stderr=True)
        if seed < 0:
            raise UserError(f"seed={seed} must be at least 0.")
        if self.recordings is None and not self.conditions:
            raise UserError("task.conditions is empty; give at least one, such as clean.")
        if self.recordings is None and sample_rate_hz != SAMPLE_RATE_HZ:
            raise UserError(
                f"audio.sample_rate_hz={sample_rate_hz}: the synthetic voices are made at "
                f"{SAMPLE_RATE_HZ} Hz. Use that, or give task.recordings=FOLDER."
            )

    def run(self, folder: Path) -> str:
        """Measure, write the results into `folder`, and return its tables.

        Raises:
            UserError: no tracker can work here, or there is nothing for them to hear.
        """
        if self.recordings is None:
            return self._run_accuracy(folder)
        return self._run_agreement(folder, self.recordings)

    def _run_accuracy(self, folder: Path) -> str:
        made = list(passages(self.minutes, self.seed, self.hop_samples))
        ready, missing = make_ready(self.candidates, self.sample_rate_hz, self.hop_samples)
        with self._progress() as bar:
            task = bar.add_task("", total=len(made) * len(self.conditions) * len(ready))
            rows = measure_accuracy(
                ready,
                made,
                self.conditions,
                self.hop_samples,
                self.seed,
                lambda tracker: bar.update(task, advance=1, description=tracker),
            )
        audio_s = sum(len(passage.audio) for passage in made) / SAMPLE_RATE_HZ
        circumstances = (
            f"{audio_s:.0f} s of synthetic voices whose F0 is exact (seed {self.seed}), under each "
            f"of {len(self.conditions)} conditions: {', '.join(self.conditions)}. {machine()}"
        )
        records = tables.accuracy_records(rows, ready)
        settings = {"minutes": self.minutes, "seed": self.seed, "hop_samples": self.hop_samples}
        facts = self._facts(settings, ready, missing)
        write_json(folder / "accuracy.json", {**facts, "rows": records})
        write_csv(folder / "accuracy.csv", records)
        text = tables.accuracy_markdown(rows, ready, missing, circumstances)
        (folder / "accuracy.md").write_text(text, encoding="utf-8")
        plot_accuracy(folder / "accuracy.png", rows)
        return _told(tables.accuracy_overview(rows, ready, missing), folder / "accuracy.md")

    def _run_agreement(self, folder: Path, recordings: Path) -> str:
        files, root = _recordings(recordings)
        ready, missing = make_ready(self.candidates, self.sample_rate_hz, self.hop_samples)
        if len(ready) < 2:
            raise UserErrors(
                "Recordings without truth need two trackers or more to compare, and only "
                f"{ready[0].name} takes part:",
                tables.missing_lines(missing) or ["task.trackers names no other"],
            )
        with self._progress() as bar:
            task = bar.add_task("", total=len(files))
            agreement = measure_agreement(
                ready,
                files,
                root,
                self.sample_rate_hz,
                self.hop_samples,
                lambda file: bar.update(task, advance=1, description=file.name),
            )
        if not agreement.files:
            raise UserErrors(
                f"task.recordings={recordings}: not one file could be read:",
                [f"{name}: {reason}" for name, reason in agreement.skipped],
            )
        audio_s = sum(file.duration_s for file in agreement.files)
        circumstances = f"{len(agreement.files)} recordings, {audio_s:.0f} s. {machine()}"
        pairs = tables.agreement_records(agreement)
        facts = self._facts({"hop_samples": self.hop_samples}, ready, missing)
        facts |= {"pairs": pairs, "files": tables.file_records(agreement)}
        write_json(folder / "agreement.json", facts | {"skipped": agreement.skipped})
        write_csv(folder / "agreement.csv", pairs)
        text = tables.agreement_markdown(agreement, ready, missing, circumstances)
        (folder / "agreement.md").write_text(text, encoding="utf-8")
        plot_agreement(folder / "agreement.png", agreement)
        return _told(tables.agreement_overview(agreement, ready, missing), folder / "agreement.md")

    def _facts(
        self, settings: dict[str, Any], ready: Sequence[Contender], missing: Sequence[Missing]
    ) -> dict[str, Any]:
        """What the results were made with."""
        return {
            "settings": settings,
            "machine": machine(),
            "real_time_factor": {c.name: c.real_time_factor for c in ready},
            "missing": {m.name: m.reason for m in missing},
        }

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )


def _recordings(path: Path) -> tuple[list[Path], Path]:
    """The files to hear and the folder that they are named from."""
    if path.is_file():
        return [path], path.parent
    if not path.is_dir():
        raise UserError(
            f"task.recordings={path} does not exist; give a folder of recordings, or one recording."
        )
    files = find_audio_files(path)
    if not files:
        raise UserError(
            f"task.recordings={path} holds no recordings: no file in it ends in one of "
            f"{', '.join(sorted(AUDIO_SUFFIXES))}."
        )
    return files, path


def _told(overview: str, page: Path) -> str:
    return f"{overview}\n\nAll tables: {page}; as a plot: {page.with_suffix('.png')}"
