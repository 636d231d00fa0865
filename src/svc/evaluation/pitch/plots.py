"""Pictures of what trackers do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from svc.evaluation.palette import COLOURS, MARKERS
from svc.evaluation.pitch.accuracy import ALL, AccuracyRow
from svc.evaluation.pitch.agreement import Agreement

Floats = NDArray[np.float64]


def plot_accuracy(path: Path, rows: Sequence[AccuracyRow]) -> None:
    """One page: accuracy, octave errors and voicing by condition, accuracy by kind of singing.

    Args:
        path: of the PNG.
        rows: as `measure_accuracy` returns them.
    """
    trackers = list(dict.fromkeys(row.tracker for row in rows))
    conditions = list(dict.fromkeys(row.condition for row in rows))
    exercises = list(dict.fromkeys(row.exercise for row in rows if row.exercise != ALL))
    scores = {(row.tracker, row.condition, row.exercise): row.score for row in rows}

    def by_condition(metric: str) -> Floats:
        return 100 * np.array(
            [[getattr(scores[t, c, ALL], metric) for c in conditions] for t in trackers]
        )

    figure = Figure(figsize=(11.5, 9.0), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.15))  # its stub knows only one
    above, below = halves
    labels = [
        name.replace("_", " ").removesuffix(" db") + " dB" * name.endswith("_db")
        for name in conditions
    ]
    left, right = above.subplots(1, 2)
    _draw_lines(left, by_condition("raw_pitch_accuracy"), trackers, labels)
    _title(left, "Raw pitch accuracy (within 50 cents), %")
    _draw_lines(right, by_condition("octave_error_share"), trackers, labels)
    _title(right, "Octave errors among voiced frames, %")
    panels = below.subplot_mosaic([["recall", "exercises"], ["false alarm", "exercises"]])
    _draw_grid(panels["recall"], by_condition("voicing_recall").T, labels, trackers)
    _title(panels["recall"], "Voiced frames that are called voiced, %")
    _draw_grid(panels["false alarm"], by_condition("voicing_false_alarm").T, labels, trackers)
    _title(panels["false alarm"], "Unvoiced frames that are called voiced, %")
    shares = [[scores[t, conditions[0], e].raw_pitch_accuracy for t in trackers] for e in exercises]
    kinds = [name.replace("_", " ") for name in exercises]
    _draw_grid(panels["exercises"], 100 * np.array(shares), kinds, trackers)
    _title(panels["exercises"], f"Raw pitch accuracy by kind of singing, {labels[0]}, %")
    handles, names = left.get_legend_handles_labels()
    above.legend(handles, names, loc="outside upper center", ncols=min(len(trackers), 8))
    _save(figure, path)


def plot_agreement(path: Path, agreement: Agreement) -> None:
    """One page: how far each pair agrees on the pitch, in which octave, and whether it is voiced.

    Args:
        path: of the PNG.
        agreement: of two trackers or more.
    """
    names = list(dict.fromkeys(name for pair in agreement.pairs for name in pair))
    panels = {
        "Within 50 cents where both are voiced, %": "within_50_cents",
        "Octaves apart where both are voiced, %": "octave_disagreement",
        "Voicing differs, %": "voicing_disagreement",
    }
    side = 1.6 + 0.55 * len(names)
    figure = Figure(figsize=(3 * side, side), layout="constrained")
    for axis, (title, metric) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        values = np.full((len(names), len(names)), np.nan)
        for (one, other), counts in agreement.pairs.items():
            first, second = names.index(one), names.index(other)
            values[first, second] = values[second, first] = 100 * getattr(counts, metric)
        _draw_grid(axis, values, names, names)
        _title(axis, title)
    _save(figure, path)


def _draw_lines(
    axis: Axes, values: Floats, trackers: Sequence[str], conditions: Sequence[str]
) -> None:
    """A line [trackers, conditions] per tracker, side by side where they coincide."""
    places = np.arange(len(conditions), dtype=np.float64)
    for index, (tracker, line) in enumerate(zip(trackers, values, strict=True)):
        offset = 0.5 * ((index + 0.5) / len(trackers) - 0.5)
        axis.plot(
            places + offset,
            line,
            label=tracker,
            linewidth=0.8,
            markersize=6,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
        )
    axis.set_xticks(places, conditions)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(axis="y", alpha=0.3)


def _draw_grid(axis: Axes, values: Floats, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Percentages [rows, columns] as numbers on a scale of colours; NaN is left empty."""
    axis.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        colour = "black" if value > 55 else "white"
        axis.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(columns)), columns, fontsize=8)
    if len(columns) > 4:
        axis.tick_params(axis="x", labelrotation=30)
    axis.set_yticks(range(len(rows)), rows, fontsize=8)
    axis.tick_params(length=0)


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, loc="left", fontsize=10)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)
