"""What `svc-eval` runs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class EvaluationTask(Protocol):
    """An option of the group `task`."""

    def run(self, folder: Path) -> str:
        """Measure, write the results into an existing folder, and say in a few lines what came
        out."""


@dataclass(frozen=True)
class Candidate:
    """One of the parts that a task compares, not built yet: what is missing for one of them must
    not stop the others."""

    name: str
    build: Callable[[], Any]
    """Raises UserError where something is missing, such as weights or a package."""
