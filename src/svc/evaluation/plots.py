"""Pictures for reports, as PNG files."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.errors import UserError

_RANGE_LN = 9.0
"""Natural-log units (78 dB) below the loudest point that the colours cover."""
_TICKS_HZ = (200, 500, 1000, 2000, 4000, 8000, 16_000)
_LINE_COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8d5a97", "#b8860b", "#555555")

DEFAULT_PANELS: dict[str, tuple[str, ...]] = {
    "generator": ("train_loss_gen",),
    "discriminator": ("train_loss_disc",),
    "validation, mel L1": ("valid_loss",),
}
"""Panels of `plot_loss_curves`: title and the metrics drawn in it."""


@dataclass(frozen=True)
class Contour:
    """A pitch contour to draw."""

    f0_hz: Tensor
    """[N]."""
    voiced: Tensor
    """[N] bool; only voiced frames are drawn."""


@dataclass(frozen=True)
class MelRow:
    """One spectrogram of a comparison."""

    title: str
    log_mel: Tensor
    """[M, N] natural log of the magnitude."""
    contour: Contour | None = None
    """Drawn over the spectrogram and in the panel of contours."""


def plot_mel_comparison(path: Path, rows: Sequence[MelRow], spec: AudioSpec) -> None:
    """Spectrograms one above the other, on one colour scale, and their F0 contours below.

    Args:
        path: of the PNG; its folder is made.
        rows: from top to bottom.
        spec: framing and mel definition.
    """
    contours = [row for row in rows if row.contour is not None]
    panels = len(rows) + bool(contours)
    figure = Figure(figsize=(10, 2.3 * panels), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    top = max(float(row.log_mel.max()) for row in rows)
    for axis, row in zip(axes, rows, strict=False):
        image = axis.imshow(
            row.log_mel.float().cpu().numpy(),
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            cmap="magma",
            vmin=top - _RANGE_LN,
            vmax=top,
            extent=(0, row.log_mel.shape[1] / spec.frame_rate_hz, -0.5, spec.mel_bins - 0.5),
        )
        axis.set_title(row.title, loc="left", fontsize=10)
        axis.set_ylabel("frequency in kHz")
        ticks = [hz for hz in _TICKS_HZ if spec.mel_min_hz <= hz <= spec.mel_max_hz]
        axis.set_yticks(mel_bin(np.array(ticks), spec), [f"{hz / 1000:g}" for hz in ticks])
        if row.contour is not None:
            times_s, f0_hz = _drawn(row.contour, spec)
            axis.plot(times_s, mel_bin(f0_hz, spec), color="#41ead4", linewidth=1.2)
    bar = figure.colorbar(image, ax=list(axes[: len(rows)]), pad=0.01, aspect=30)
    bar.set_label("magnitude, natural log")
    if contours:
        _draw_contours(axes[-1], contours, spec)
    axes[-1].set_xlabel("time in s")
    save_figure(figure, path)


def plot_loss_curves(
    metrics_csv: Path,
    path: Path,
    panels: Mapping[str, Sequence[str]] = DEFAULT_PANELS,
) -> None:
    """Loss curves of a run.

    What is logged often is drawn faintly, with its moving average on top. Metrics that the file
    does not have are left out.

    Args:
        metrics_csv: as Lightning's CSVLogger writes it: a column "step", and one per metric.
        path: of the PNG; its folder is made.
        panels: title -> names of the metrics in that panel.

    Raises:
        UserError: the file is missing or holds none of the metrics.
    """
    curves = read_curves(metrics_csv)
    shown = {title: [name for name in names if name in curves] for title, names in panels.items()}
    shown = {title: names for title, names in shown.items() if names}
    if not shown:
        wanted = ", ".join(name for names in panels.values() for name in names)
        raise UserError(f"{metrics_csv} holds none of the metrics {wanted}.")
    figure = Figure(figsize=(4.2 * len(shown), 3.4), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (title, names) in zip(axes, shown.items(), strict=True):
        for name, colour in zip(names, _LINE_COLOURS, strict=False):
            _draw_curve(axis, name, *curves[name], colour)
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel("generator updates")
        axis.set_ylabel("loss")
        axis.grid(alpha=0.25)
        if len(names) > 1:
            axis.legend(fontsize=8, frameon=False)
    save_figure(figure, path)


def read_curves(metrics_csv: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Metric -> (steps, values), in the order of the file, without gaps and NaN.

    Raises:
        UserError: there is no such file, or it has no column "step".
    """
    if not metrics_csv.is_file():
        raise UserError(
            f"There is no {metrics_csv}; loss curves are drawn from a run's metrics.csv."
        )
    with metrics_csv.open(newline="") as file:
        reader = csv.DictReader(file)
        if "step" not in (reader.fieldnames or ()):
            raise UserError(f"{metrics_csv} has no column 'step'; expected a run's metrics.csv.")
        curves: dict[str, tuple[list[int], list[float]]] = {}
        for line in reader:
            for name, text in line.items():
                # A line that a killed run left half written lacks its last columns.
                if name in ("step", "epoch", None) or not text or not line["step"]:
                    continue
                value = float(text)
                if math.isfinite(value):
                    steps, values = curves.setdefault(name, ([], []))
                    steps.append(int(float(line["step"])))
                    values.append(value)
    return curves


def mel_bin(frequency_hz: NDArray[np.floating], spec: AudioSpec) -> NDArray[np.float64]:
    """Where a frequency lies among the mel bins: the centre of bin i is at i."""
    lowest, highest, mel = (
        _slaney_mel(np.asarray(hz, dtype=np.float64))
        for hz in (spec.mel_min_hz, spec.mel_max_hz, frequency_hz)
    )
    return np.asarray((mel - lowest) / (highest - lowest) * (spec.mel_bins + 1) - 1)


def _slaney_mel(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear below 1 kHz, logarithmic above (M. Slaney, Auditory Toolbox, 1998)."""
    above = 15 + np.log(np.maximum(frequency_hz, 1000) / 1000) * 27 / math.log(6.4)
    return np.where(frequency_hz < 1000, frequency_hz * 3 / 200, above)


def _drawn(contour: Contour, spec: AudioSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times in s and F0 in Hz, NaN where the line is to be interrupted."""
    f0_hz: NDArray[np.float64] = contour.f0_hz.double().cpu().numpy().copy()
    times_s = (np.arange(len(f0_hz), dtype=np.float64) + 0.5) / spec.frame_rate_hz
    f0_hz[~contour.voiced.cpu().numpy()] = np.nan
    return times_s, f0_hz


def _draw_contours(axis: Axes, rows: Sequence[MelRow], spec: AudioSpec) -> None:
    # The last row is what is wanted: drawn broad and first, the others lie on it.
    for index, row in reversed(list(enumerate(rows))):
        assert row.contour is not None
        last = index == len(rows) - 1 and len(rows) > 1
        axis.plot(
            *_drawn(row.contour, spec),
            label=row.title,
            color="#bbbbbb" if last else _LINE_COLOURS[index % len(_LINE_COLOURS)],
            linewidth=4 if last else 1.2,
        )
    axis.set_yscale("log", base=2)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axis.yaxis.set_minor_formatter(lambda value, _: "")
    low, high = axis.get_ylim()
    notes = [440 * 2 ** (semitone / 12) for semitone in range(-48, 37, 3)]
    axis.set_yticks([hz for hz in notes if low <= hz <= high])
    axis.set_ylabel("F0 in Hz")
    axis.grid(alpha=0.25)
    axis.legend(
        fontsize=9, frameon=False, loc="lower left", bbox_to_anchor=(0, 0.98), ncols=len(rows)
    )


def _draw_curve(axis: Axes, name: str, steps: list[int], values: list[float], colour: str) -> None:
    series = np.array(values)
    if len(series) < 50:
        axis.plot(steps, series, color=colour, linewidth=1.4, marker=".", label=name)
    else:
        axis.plot(steps, series, color=colour, linewidth=0.6, alpha=0.3)
        axis.plot(steps, _moving_mean(series, len(series) // 25), color=colour, label=name)
    if series.min() > 0 and series.max() > 10 * series.min():
        axis.set_yscale("log")


def _moving_mean(series: NDArray[np.float64], span: int) -> NDArray[np.float64]:
    """Centred, over fewer values at the ends."""
    kernel = np.ones(2 * (span // 2) + 1)
    return np.convolve(series, kernel, "same") / np.convolve(np.ones_like(series), kernel, "same")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)
