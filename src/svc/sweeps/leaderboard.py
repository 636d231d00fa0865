"""The jobs of a sweep, best first, as a table and as a page to listen to."""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from svc import __version__
from svc.atomic_file import replace_text
from svc.sweeps.job_record import JobRecord, job_folders, read_job
from svc.training.run_summary import SCORE, RunSummary, read_summary

CSV_NAME = "leaderboard.csv"
PAGE_NAME = "leaderboard.html"

_FIGURES = ("steps", "steps_per_s", "peak_memory_gib", "wall_s")
"""Columns after the metrics, by their names in `RunSummary`."""

_STATES = ("done", "running", "skipped", "failed")
"""In the order in which jobs without a score are listed."""


@dataclass(frozen=True)
class Entry:
    """A job and what its run came to."""

    folder: Path
    job: JobRecord
    summary: RunSummary | None
    """None where the run has not ended well."""
    ended: bool = True
    """Whether the multirun has; then a job that is found running was killed."""

    @property
    def settings(self) -> dict[str, str]:
        """What was typed for it, by key."""
        pairs = (override.partition("=") for override in self.job.overrides)
        return {key.lstrip("+"): value for key, _, value in pairs}

    @property
    def state(self) -> str:
        """For a reader: running, done, pruned, skipped, failed or killed."""
        if self.job.state == "done" and self.summary and self.summary.pruned:
            return "pruned"
        return "killed" if self.job.state == "running" and self.ended else self.job.state


@dataclass(frozen=True)
class Leaderboard:
    """All jobs of a sweep.

    Args:
        folder: of the sweep.
        entries: best first; jobs without a score come after those with one.
    """

    folder: Path
    entries: Sequence[Entry]

    @property
    def swept(self) -> list[str]:
        """Settings in which the jobs differ, in the order in which they were typed."""
        keys = dict.fromkeys(key for entry in self.entries for key in entry.settings)
        return [key for key in keys if len({e.settings.get(key) for e in self.entries}) > 1]

    @property
    def metrics(self) -> list[str]:
        """Names of the validation's metrics, that which is judged by first."""
        names = {n for e in self.entries if e.summary for n in e.summary.metrics}
        return sorted(names, key=lambda name: (name != SCORE, name))


def read_leaderboard(sweep: Path, *, ended: bool = True) -> Leaderboard:
    """The leaderboard of the jobs that have begun in the folder of a sweep.

    Args:
        sweep: the folder.
        ended: whether the multirun has; otherwise jobs may be running.
    """
    entries = []
    for folder in job_folders(sweep):
        job = read_job(folder)
        if job is not None:
            summary = read_summary(folder) if job.state == "done" else None
            entries.append(Entry(folder, job, summary, ended))
    return Leaderboard(sweep, sorted(entries, key=_order))


def _order(entry: Entry) -> tuple[Any, ...]:
    score = entry.summary.score if entry.summary else None
    return (
        math.inf if score is None else score,
        _STATES.index(entry.job.state),
        entry.job.number,
        str(entry.folder),
    )


def write_leaderboard(board: Leaderboard) -> Path:
    """Write leaderboard.csv and leaderboard.html into the folder of the sweep, each in one go.

    Returns:
        Path of the page.

    Raises:
        OSError: they cannot be written.
    """
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([columns(board), *rows(board)])
    replace_text(board.folder / CSV_NAME, table.getvalue())
    environment = Environment(
        loader=PackageLoader("svc.sweeps"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("leaderboard.html.j2").render(
        title=f"Leaderboard of {board.folder.resolve().name}",
        count=counted(board.entries),
        score=SCORE,
        swept=board.swept,
        metrics=board.metrics,
        entries=[_shown(board, entry) for entry in board.entries],
        shared=_shared(board),
        version=__version__,
    )
    path = board.folder / PAGE_NAME
    replace_text(path, page)
    return path


def columns(board: Leaderboard) -> list[str]:
    """Heads of the table; after them comes what `rows` gives."""
    return ["job", "state", *board.swept, *board.metrics, *_FIGURES, "reason", "run", "audio"]


def rows(board: Leaderboard) -> list[list[Any]]:
    """The table, best first; None where there is nothing. Paths are relative to the sweep."""
    table = []
    for entry in board.entries:
        summary, settings = entry.summary, entry.settings
        sounds = _sounds(entry.folder)
        table.append(
            [
                entry.job.number,
                entry.state,
                *(settings.get(key) for key in board.swept),
                *(summary.metrics.get(name) if summary else None for name in board.metrics),
                *(getattr(summary, name) if summary else None for name in _FIGURES),
                entry.job.reason or None,
                _relative(board, entry.folder),
                _relative(board, sounds["prediction"]) if "prediction" in sounds else None,
            ]
        )
    return table


def counted(entries: Sequence[Entry]) -> str:
    """How many jobs there are of each kind: "8 jobs: 4 done, 3 skipped, 1 failed"."""
    states = [entry.state for entry in entries]
    kinds = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(states)} job{'s' * (len(states) != 1)}: {kinds}"


def _shown(board: Leaderboard, entry: Entry) -> dict[str, Any]:
    """What the page shows of a job."""
    summary, settings = entry.summary, entry.settings
    sounds = _sounds(entry.folder)
    figures: Mapping[str, Any] = summary.metrics if summary else {}
    return {
        "number": entry.job.number,
        "state": entry.state,
        "has_score": summary is not None and summary.score is not None,
        "reason": entry.job.reason,
        "settings": [settings.get(key, "") for key in board.swept],
        "metrics": [_number(figures.get(name), ".4g") for name in board.metrics],
        "steps": _number(summary.steps if summary else None, "d"),
        "steps_per_s": _number(summary.steps_per_s if summary else None, ".3g"),
        "memory": _number(summary.peak_memory_gib if summary else None, ".2f"),
        "minutes": _number(summary.wall_s / 60 if summary else None, ".1f"),
        "run": quote(_relative(board, entry.folder)) if _has_run(entry.folder) else "",
        "sounds": {name: quote(_relative(board, path)) for name, path in sounds.items()},
    }


def _shared(board: Leaderboard) -> dict[str, str]:
    """What was typed for all jobs alike."""
    settings = board.entries[0].settings if board.entries else {}
    return {key: value for key, value in settings.items() if key not in board.swept}


def _sounds(run: Path) -> dict[str, Path]:
    """Target and prediction of the last validation's first crop, as far as they are there."""
    validations = sorted((run / "samples").glob("step_*"), key=lambda path: (len(path.name), path))
    if not validations:
        return {}
    found = {name: validations[-1] / f"0_{name}.wav" for name in ("target", "prediction")}
    return {name: path for name, path in found.items() if path.is_file()}


def _has_run(folder: Path) -> bool:
    return (folder / "run.yaml").is_file()


def _relative(board: Leaderboard, path: Path) -> str:
    """So that the folder of the sweep can be moved."""
    return Path(os.path.relpath(path, board.folder)).as_posix()


def _number(value: float | None, spec: str) -> str:
    return "–" if value is None else format(value, spec)
