"""Mel spectrograms one above the other."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from svc.audio.spec import AudioSpec


def plot_mels(mels: Mapping[str, Tensor], spec: AudioSpec, path: Path) -> None:
    """Draw log mels with a common time axis and colour scale into a PNG file.

    Args:
        mels: title -> [M, N] natural-log mel, CPU.
        spec: for the time axis.
        path: of the file.
    """
    figure = Figure(figsize=(9, 2.4 * len(mels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(mels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    highest = max(float(mel.max()) for mel in mels.values())
    lowest = max(min(float(mel.min()) for mel in mels.values()), highest - 12.0)
    for axis, (title, mel) in zip(axes, mels.items(), strict=True):
        picture = axis.imshow(
            mel.float().numpy(),
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            vmin=lowest,
            vmax=highest,
            extent=(0.0, mel.shape[-1] / spec.frame_rate_hz, 0.0, float(mel.shape[0])),
        )
        axis.set_title(title, fontsize=9)
        axis.set_ylabel("mel bin")
    axes[-1].set_xlabel("time in s")
    figure.colorbar(picture, ax=list(axes), label="ln amplitude")
    figure.savefig(path, dpi=90)
