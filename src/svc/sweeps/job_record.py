"""What became of a job of a sweep, in a small file in its folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from svc.atomic_file import replace_text

JOB_FILE = "job.json"
"""In the folder of every job that has begun."""

JobState = Literal["running", "done", "skipped", "failed"]


@dataclass(frozen=True)
class JobRecord:
    """How a job stands."""

    number: int
    """Within its multirun."""
    overrides: Sequence[str]
    """What makes this job, as typed: settings of the sweep, and those that all jobs share."""
    state: JobState
    """One that is found running when the multirun has ended was killed."""
    reason: str = ""
    """Why it was skipped, or how it failed."""
    code: int = 0
    """Exit code of the command if this were its only job."""


def write_job(folder: Path, record: JobRecord) -> None:
    """Record how a job stands in its folder, in one go."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / JOB_FILE, json.dumps(asdict(record), indent=1) + "\n")


def read_job(folder: Path) -> JobRecord | None:
    """What `write_job` recorded, or None where there is nothing that can be read."""
    try:
        recorded = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
        return JobRecord(**{field.name: recorded[field.name] for field in fields(JobRecord)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def job_folders(sweep: Path) -> list[Path]:
    """Folder of every job of a sweep that has begun, in no particular order."""
    return [file.parent for file in sweep.rglob(JOB_FILE)]
