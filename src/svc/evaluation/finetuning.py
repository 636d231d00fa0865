"""What fine-tuning brings: ways to a new singer's voice, measured against the exact truth."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.demo.phrases import DemoPair, held_out
from svc.data.demo.singers import SINGERS, singer_by_name
from svc.data.demo.source import DemoSource
from svc.evaluation.demo import convert_pair
from svc.evaluation.metrics.spectrum import active_frames, mel_cepstral_distortion_db
from svc.evaluation.palette import COLOURS, MARKERS
from svc.evaluation.plots import save_figure
from svc.evaluation.tables import markdown_table, number, write_csv
from svc.inference.converter import Converter

PHRASES_SEED = 1000
"""Of the held-out phrases; the recordings have another."""
PHRASE_S = 7.5
"""Length of every recording: eight of them are a minute."""


@dataclass(frozen=True)
class Point:
    """A model after some updates."""

    step: int
    """Generator updates."""
    cpu_s: float
    """CPU seconds, user and system, that these updates took; NaN where that was not measured."""
    mcd_db: float
    """Mean mel-cepstral distortion of its conversions from the truth."""


@dataclass(frozen=True)
class WayResult:
    """One way to the new voice and how it went."""

    name: str
    settings: str
    """What a reader needs to know of them."""
    points: tuple[Point, ...]
    """At least one, in the order of their steps."""
    file: str
    """What kind of file is left."""
    file_bytes: int

    @property
    def final(self) -> Point:
        """Where it ended."""
        return self.points[-1]

    def first_at(self, mcd_db: float) -> Point | None:
        """The first point that is at a distortion or below it; None where none is."""
        return next((point for point in self.points if point.mcd_db <= mcd_db), None)


class HeldOutPhrases:
    """Phrases that no model has heard, by several sources, and the truth of their conversion.

    Args:
        target: the singer to convert into.
        per_source: phrases of every other synthetic singer.
        spec: framing and mel of the models.

    Raises:
        UserError: the singer is not known.
    """

    def __init__(self, target: str, per_source: int, spec: AudioSpec) -> None:
        sources = [singer.name for singer in SINGERS if singer != singer_by_name(target)]
        self.pairs: tuple[DemoPair, ...] = tuple(
            held_out(PHRASES_SEED, index, source, target)
            for index, source in enumerate(sources * per_source)
        )
        self._mel = MelSpectrogram(spec)
        self._truth = [
            (self._mel(pair.truth), active_frames(pair.truth, spec)) for pair in self.pairs
        ]

    @property
    def unconverted_mcd_db(self) -> float:
        """What doing nothing would give."""
        return self._mean_mcd_db([pair.source for pair in self.pairs])

    def mcd_db(self, converter: Converter) -> float:
        """Mean distortion of a model's conversions; it must know the target singer.

        Raises:
            UserError: it does not.
        """
        return self._mean_mcd_db([convert_pair(converter, pair) for pair in self.pairs])

    def _mean_mcd_db(self, audios: Sequence[Tensor]) -> float:
        return fmean(
            mel_cepstral_distortion_db(self._mel(audio), mel, active)
            for audio, (mel, active) in zip(audios, self._truth, strict=True)
        )


def write_recordings(folder: Path, singer: str, seconds: float, seed: int = 0) -> float:
    """Training recordings of one synthetic singer: `folder/<singer>/phrase_000.wav` and so on.

    Args:
        folder: replaced where it is there.
        singer: name.
        seconds: of audio, in phrases of 7.5 s; above 0.
        seed: of the recordings.

    Returns:
        The seconds written: whole phrases.

    Raises:
        UserError: the singer is not known.
    """
    wanted = singer_by_name(singer)
    everybody = folder.with_name(f".{folder.name}.everybody")
    source = DemoSource(
        everybody,
        seed=seed,
        singers=SINGERS.index(wanted) + 1,
        minutes_per_singer=seconds / 60,
        phrase_s=(PHRASE_S, PHRASE_S),
    )
    recordings = [recording for recording in source.recordings() if recording.speaker == singer]
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(everybody / singer, folder / singer)
    shutil.rmtree(everybody)
    return len(recordings) * PHRASE_S


def write_results(folder: Path, results: Sequence[WayResult], unconverted_mcd_db: float) -> str:
    """Write `table.csv`, `points.csv`, `table.md` and `curve.png`; -> the table in Markdown.

    Args:
        folder: made where it is missing.
        results: the first is training from scratch, whose final distortion the others are to reach.
        unconverted_mcd_db: of the sources themselves.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target_db = results[0].final.mcd_db
    write_csv(folder / "table.csv", [_row(result, target_db) for result in results])
    points = [{"way": result.name, **vars(point)} for result in results for point in result.points]
    write_csv(folder / "points.csv", points)
    plot_ways(folder / "curve.png", results, unconverted_mcd_db)
    table = markdown(results, target_db)
    (folder / "table.md").write_text(table + "\n", encoding="utf-8")
    return table


def markdown(results: Sequence[WayResult], target_db: float) -> str:
    """One line per way: how soon it was at a distortion, and where it ended."""
    header = [
        "way",
        f"steps to {target_db:.2f} dB",
        f"CPU s to {target_db:.2f} dB",
        "final MCD, dB",
        "after steps",
        "CPU s in all",
        "file",
        "MB",
    ]
    lines = []
    for result in results:
        reached = result.first_at(target_db)
        lines.append(
            [
                result.name,
                "never" if reached is None else f"{reached.step}",
                "–" if reached is None else number(reached.cpu_s, ".0f"),
                f"{result.final.mcd_db:.2f}",
                f"{result.final.step}",
                number(result.final.cpu_s, ".0f"),
                result.file,
                f"{result.file_bytes / 1e6:.2f}",
            ]
        )
    return markdown_table(header, lines)


def plot_ways(path: Path, results: Sequence[WayResult], unconverted_mcd_db: float) -> None:
    """Distortion over updates, and over CPU seconds; both horizontal axes are logarithmic.

    Args:
        path: of the PNG.
        results: the final distortion of the first is drawn as a line.
        unconverted_mcd_db: of the sources, drawn as another.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, over, label in (
        (left, "step", "generator updates"),
        (right, "cpu_s", "CPU seconds of training"),
    ):
        for index, result in enumerate(results):
            axis.plot(
                [getattr(point, over) for point in result.points],
                [point.mcd_db for point in result.points],
                label=result.name,
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=5,
                linewidth=1.2,
            )
        axis.axhline(
            results[0].final.mcd_db,
            color=COLOURS[0],
            linewidth=0.8,
            linestyle="--",
            label=f"{results[0].name}, final",
        )
        axis.axhline(
            unconverted_mcd_db, color="#888888", linewidth=0.8, linestyle=":", label="unconverted"
        )
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    left.set_ylabel("mel-cepstral distortion, dB")
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), fontsize=9)
    save_figure(figure, path)


def _row(result: WayResult, target_db: float) -> dict[str, object]:
    reached = result.first_at(target_db)
    return {
        "way": result.name,
        "target_mcd_db": target_db,
        "steps_to_target": "" if reached is None else reached.step,
        "cpu_s_to_target": "" if reached is None else reached.cpu_s,
        "final_mcd_db": result.final.mcd_db,
        "best_mcd_db": min(point.mcd_db for point in result.points),
        "steps": result.final.step,
        "cpu_s": result.final.cpu_s,
        "file": result.file,
        "file_bytes": result.file_bytes,
        "settings": result.settings,
    }
