"""A picture of what accuracy costs."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from svc.evaluation.palette import COLOURS, MARKERS
from svc.evaluation.samplers.measurement import Reference, SamplerRow
from svc.evaluation.samplers.tables import LIMIT_PERCENT


def plot_samplers(path: Path, rows: Sequence[SamplerRow], reference: Reference) -> None:
    """Distance to the converged mel over evaluations, and over time, both axes logarithmic.

    Args:
        path: of the PNG.
        rows: of all samplers; those that draw noise are dotted.
        reference: what lies below its own uncertainty is shaded.
    """
    figure = Figure(figsize=(11.5, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, rows, reference, "evaluations")
    _draw(right, rows, reference, "seconds_per_second")
    left.set_ylabel("distance to the converged mel, % of its range")
    left.set_xlabel("evaluations of the network")
    right.set_xlabel("seconds of sampling per second of audio")
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=5, fontsize=9)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)


def _draw(axis: Axes, rows: Sequence[SamplerRow], reference: Reference, over: str) -> None:
    # What equals the reference itself cannot be drawn on a logarithmic axis.
    drawn = [
        row for row in rows if math.isfinite(row.distance_percent) and row.distance_percent > 0
    ]
    for index, name in enumerate(dict.fromkeys(row.sampler for row in rows)):
        its = sorted((row for row in drawn if row.sampler == name), key=lambda row: row.evaluations)
        random = any(row.random for row in its)
        axis.plot(
            [getattr(row, over) for row in its],
            [row.distance_percent for row in its],
            label=f"{name} (draws noise)" if random else name,
            linestyle=":" if random else "-",
            linewidth=0.9,
            markersize=5,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
        )
    axis.axhline(LIMIT_PERCENT, color="#444444", linewidth=0.8, linestyle="--")
    axis.set_xscale("log")
    axis.set_yscale("log")
    shown = [LIMIT_PERCENT, *(row.distance_percent for row in drawn)]
    lowest, highest = min(shown) / 2, max(shown) * 2
    if reference.gap_percent > lowest:
        axis.axhspan(lowest, reference.gap_percent, color="#888888", alpha=0.2, linewidth=0)
    axis.set_ylim(lowest, highest)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(alpha=0.3)
