"""Results of an evaluation as JSON, CSV and Markdown."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Plain containers as JSON; what is not a number becomes null."""
    path.write_text(json.dumps(_plain(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per row, columns as in the first; what is not a number stays empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown whose columns also stand below each other in a terminal."""
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
    first, *others = widths
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    padded = [
        [line[0].ljust(first), *(c.rjust(w) for c, w in zip(line[1:], others, strict=True))]
        for line in (header, *lines)
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (padded[0], rule, *padded[1:]))


def number(value: float, spec: str) -> str:
    """A number for a reader, or a dash where there is none."""
    return format(value, spec) if math.isfinite(value) else "–"


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.5g}" if math.isfinite(value) else ""
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return value
