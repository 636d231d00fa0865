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


def draw(metrics_csv: Path, path: Path) -> None:
    """Draw every panel that the run has metrics for.

    Args:
        metrics_csv: of the run.
        path: of the PNG.

    Raises:
        UserError: the file is missing, or holds no metric of ours.
    """
    curves = read_curves(metrics_csv)
    panels = [
        panel
        for section in SECTIONS
        for panel in section.panels
        if isinstance(panel, LinePanel) and any(name in curves for name in panel.metrics)
    ]
    if not panels:
        raise UserError(f"{metrics_csv} holds no metric of a training run.")
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for axis, panel in zip(axes, panels, strict=False):
        _draw_panel(axis, panel, curves)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    save_figure(figure, path)


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
        draw(_metrics_of(arguments.run), arguments.picture)
    except UserError as error:
        print(f"dashboard_picture.py: {error}", file=sys.stderr)
        sys.exit(2)


def _metrics_of(run: Path) -> Path:
    """The metrics that a run wrote last; each continuation has a folder of its own."""
    found = sorted(run.glob("metrics/version_*/metrics.csv"), key=lambda file: file.stat().st_mtime)
    return found[-1] if found else run


if __name__ == "__main__":
    main()
