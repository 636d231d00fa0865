"""What `svc-eval` runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from svc.errors import UserErrors


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
    build: Callable[..., Any]
    """Keyword arguments take the place of its settings. Raises UserError where something is
    missing, such as weights or a package."""


def chosen(
    candidates: Sequence[Candidate], names: Sequence[str] | None, setting: str, kind: str
) -> list[Candidate]:
    """The candidates of those names, in the order of the names; all of them for None.

    Args:
        candidates: those that there are.
        names: which are wanted.
        setting: that the names come from, such as `task.trackers`, for the message.
        kind: what a candidate is, such as `tracker`, for the message.

    Raises:
        UserErrors: a name that no candidate has, with the nearest one.
    """
    if names is None:
        return list(candidates)
    by_name = {candidate.name: candidate for candidate in candidates}
    unknown = [name for name in names if name not in by_name]
    if unknown or not names:
        there_are = f"There are {', '.join(sorted(by_name))}."
        faults = [f"{name!r} is no {kind}{_nearest(name, by_name)}" for name in unknown]
        raise UserErrors(f"{setting} cannot be used:", [*(faults or ["it is empty"]), there_are])
    return [by_name[name] for name in dict.fromkeys(names)]


def _nearest(name: str, known: dict[str, Candidate]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else "."
