#!/usr/bin/env python
"""The curves of a run's dashboard as one picture, from its metrics.csv: needs no dashboard.

    python scripts/dashboard_picture.py outputs/voices/RUN dashboard.png

The panels are those of scripts/wandb_workspace.py that the run has metrics for.
"""

import argparse
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svc.errors import UserError
from svc.evaluation.plots import read_curves, save_figure
from svc.training.dashboard import SECTIONS, LinePanel

COLUMNS = 4
COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#b8860b", "#8d5a97", "#555555")

Curves = dict[str, tuple[list[int], list[float]]]


def draw(run: Path, path: Path) -> None:
    """Draw every panel that the run has metrics for.

    Args:
        run: its folder, or a metrics.csv.
        path: of the PNG.

    Raises:
        UserError: the file is missing, or holds no metric of ours.
    """
    curves = curves_of(run)
    panels = [
        panel
        for section in SECTIONS
        for panel in section.panels
        if isinstance(panel, LinePanel) and any(name in curves for name in panel.metrics)
    ]
    if not panels:
        raise UserError(f"{run} holds no metric of a training run.")
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for axis, panel in zip(axes, panels, strict=False):
        _draw_panel(axis, panel, curves)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    save_figure(figure, path)


def curves_of(run: Path) -> Curves:
    """The curves of a run, over all its continuations.

    Each of these has a metrics.csv of its own. One that follows a kill begins at the last
    checkpoint, and its values replace those from there on.

    Args:
        run: its folder, or a metrics.csv.

    Raises:
        UserError: there is no such file.
    """
    found = run.glob("metrics/version_*/metrics.csv")
    parts = sorted(found, key=lambda file: int(file.parent.name.removeprefix("version_"))) or [run]
    curves: Curves = {}
    for part in map(read_curves, parts):
        begins = min((steps[0] for steps, _ in part.values()), default=None)
        if begins is None:
            continue
        for name in curves.keys() | part.keys():
            before = zip(*curves.get(name, ([], [])), strict=True)
            points = [point for point in before if point[0] <= begins]
            points += zip(*part.get(name, ([], [])), strict=True)
            curves[name] = ([step for step, _ in points], [value for _, value in points])
    return {name: curve for name, curve in curves.items() if curve[0]}


def _draw_panel(axis: Axes, panel: LinePanel, curves: Curves) -> None:
    shown = {name: curves[name] for name in panel.metrics if name in curves}
    first = min(steps[0] for steps, _ in curves.values())
    last = max(steps[-1] for steps, _ in curves.values())
    for (name, (steps, values)), colour in zip(shown.items(), COLOURS, strict=False):
        if name.startswith("alarm/"):  # it holds until the next mark
            axis.step([*steps, last], [*values, values[-1]], color=colour, where="post", label=name)
        else:
            marker = "." if len(steps) < 30 else ""
            axis.plot(steps, values, color=colour, lw=1.0, marker=marker, label=name)
    largest = max(value for _, values in shown.values() for value in values)
    if panel.log_y and all(value > 0 for _, values in shown.values() for value in values):
        axis.set_yscale("log")
    elif panel.y_range != (None, None):
        low, high = panel.y_range
        axis.set_ylim(low, 1.1 * max(largest, high or 0.0) or None)
    axis.set_xlim(first, max(last, first + 1))
    axis.set_title(panel.title, loc="left", fontsize=9)
    axis.tick_params(labelsize=7, which="both")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=6, frameon=False)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run, or its metrics.csv")
    parser.add_argument("picture", type=Path, help="PNG to write")
    arguments = parser.parse_args()
    try:
        draw(arguments.run, arguments.picture)
    except UserError as error:
        print(f"dashboard_picture.py: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
