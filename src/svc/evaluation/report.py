"""A page to listen to and to read: players, pictures, and numbers with their meaning."""

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from svc import __version__
from svc.evaluation.conversion import ConversionMetrics, UnpairedMetrics
from svc.evaluation.metrics.f0 import F0Errors

MCD_REDUCTION_TARGET_PERCENT = 30.0
F0_TARGET_CENTS = 20.0
VOICING_TARGET = 0.10


@dataclass(frozen=True)
class Clip:
    """Something to listen to or to look at: a file beside the page."""

    title: str
    path: Path
    """Linked relative to the page, so that the folder can be moved."""
    text: str = ""


@dataclass(frozen=True)
class MetricRow:
    """A number and what it means to somebody who has not met it before."""

    name: str
    value: str
    """With its unit."""
    explanation: str
    passed: bool | None = None
    """Whether the target is met; None where there is none."""
    target: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page; what is empty is not shown."""

    title: str
    text: Sequence[str] = ()
    """Paragraphs."""
    clips: Sequence[Clip] = ()
    rows: Sequence[MetricRow] = ()
    pictures: Sequence[Clip] = ()


@dataclass(frozen=True)
class Report:
    """All of the page."""

    title: str
    introduction: Sequence[str]
    """Paragraphs under the title."""
    sections: Sequence[Section]
    metrics: Mapping[str, Any]
    """What metrics.json holds: mappings, lists, numbers, strings, dataclasses of them."""
    settings: Mapping[str, str] = field(default_factory=dict)


def write_report(folder: Path, report: Report, *, embed_pictures: bool = False) -> Path:
    """Write report.html and metrics.json into a folder.

    Sounds and pictures are linked, not copied: put them into the folder first.

    Args:
        folder: is made where it is not there.
        report: what the page shows.
        embed_pictures: put the pictures into the page itself, so that it needs none beside it.

    Returns:
        Path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=PackageLoader("svc.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [
        {
            "title": section.title,
            "text": section.text,
            "clips": [_linked(clip, folder) for clip in section.clips],
            "rows": section.rows,
            "pictures": [
                _embedded(picture) if embed_pictures else _linked(picture, folder)
                for picture in section.pictures
            ],
        }
        for section in report.sections
    ]
    page = environment.get_template("report.html.j2").render(
        title=report.title,
        introduction=report.introduction,
        sections=sections,
        settings=report.settings,
        version=__version__,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    write_metrics(folder / "metrics.json", report.metrics)
    return path


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Metrics as JSON; dataclasses become objects, NaN and infinity become null."""
    path.write_text(metrics_text(metrics) + "\n", encoding="utf-8")


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """The JSON that `write_metrics` writes."""
    return json.dumps(_plain(metrics), indent=2, ensure_ascii=False, allow_nan=False)


def explain_pair(metrics: ConversionMetrics) -> list[MetricRow]:
    """The rows of a conversion of which the truth is known."""
    return [
        MetricRow(
            "Mel-cepstral distortion before",
            f"{metrics.mcd_source_db:.2f} dB",
            "How far the source's timbre is from what the target singer would have sung: the RMS "
            "distance of the two spectral envelopes.",
        ),
        MetricRow(
            "Mel-cepstral distortion after",
            f"{metrics.mcd_converted_db:.2f} dB",
            "The same for the conversion; 0 would be perfect.",
        ),
        MetricRow(
            "Nearer to the target by",
            f"{metrics.mcd_reduction_percent:.0f} %",
            "By how much the conversion closed the distance in timbre.",
            metrics.mcd_reduction_percent >= MCD_REDUCTION_TARGET_PERCENT,
            f"at least {MCD_REDUCTION_TARGET_PERCENT:g} %",
        ),
        *_explain_f0(metrics.f0, "the exact contour"),
        MetricRow(
            "Mel difference",
            f"{metrics.log_mel_l1_converted:.2f}",
            f"Mean absolute difference of the log mel spectrograms, level and pitch included. "
            f"Before conversion it was {metrics.log_mel_l1_source:.2f}.",
        ),
        MetricRow(
            "Level",
            f"{metrics.level_difference_db:+.1f} dB",
            "How much louder than the truth the conversion is.",
        ),
        MetricRow(
            "Error of the measurement itself",
            f"{metrics.f0_of_truth.median_abs_cents:.1f} cents, "
            f"{100 * metrics.f0_of_truth.voicing_error_share:.1f} %",
            "Pitch and voicing errors that the same tracker makes on the truth's own recording. "
            "Nothing smaller than this can be measured.",
        ),
    ]


def explain_unpaired(metrics: UnpairedMetrics) -> list[MetricRow]:
    """The rows of a conversion that has no parallel truth."""
    return [
        MetricRow(
            "Timbre distance before",
            f"{metrics.timbre_distance_source_db:.2f} dB",
            "Distance between the average spectral envelopes of the source and of the target "
            "speaker's own recordings. It also sees the microphone and what is sung.",
        ),
        MetricRow(
            "Timbre distance after",
            f"{metrics.timbre_distance_converted_db:.2f} dB",
            "The same for the conversion.",
        ),
        MetricRow(
            "Nearer to the target by",
            f"{metrics.timbre_reduction_percent:.0f} %",
            "By how much the conversion closed the distance.",
        ),
        *_explain_f0(metrics.f0, "the source's own contour, shifted as wanted", judged=False),
        MetricRow(
            "Level",
            f"{metrics.level_difference_db:+.1f} dB",
            "How much louder than the source the conversion is.",
        ),
    ]


def _explain_f0(f0: F0Errors, wanted: str, judged: bool = True) -> list[MetricRow]:
    return [
        MetricRow(
            "Pitch error",
            f"{f0.median_abs_cents:.1f} cents",
            f"Median distance from {wanted}, where both are voiced; 100 cents are a semitone. "
            f"Measured by a tracker that the model never saw.",
            f0.median_abs_cents <= F0_TARGET_CENTS if judged else None,
            f"at most {F0_TARGET_CENTS:g} cents",
        ),
        MetricRow(
            "Frames within 50 cents",
            f"{100 * f0.share_within_50_cents:.1f} %",
            "Share of the voiced frames that nobody would call out of tune.",
        ),
        MetricRow(
            "Octave errors",
            f"{100 * f0.gross_error_share:.1f} %",
            "Share of the voiced frames that are more than half an octave off.",
        ),
        MetricRow(
            "Voicing error",
            f"{100 * f0.voicing_error_share:.1f} %",
            "Share of all frames that sing where they should not, or do not where they should.",
            f0.voicing_error_share < VOICING_TARGET if judged else None,
            f"below {100 * VOICING_TARGET:g} %",
        ),
    ]


def _linked(clip: Clip, folder: Path) -> dict[str, str]:
    relative = Path(os.path.relpath(clip.path, folder)).as_posix()
    return {"title": clip.title, "text": clip.text, "link": quote(relative)}


def _embedded(picture: Clip) -> dict[str, str]:
    """A PNG as part of the page."""
    data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    link = f"data:image/png;base64,{data}"
    return {"title": picture.title, "text": picture.text, "link": link}


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
