"""Results of the comparison of pitch trackers as flat records and Markdown."""

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from svc.evaluation.pitch.accuracy import ALL, AccuracyRow
from svc.evaluation.pitch.agreement import Agreement, FileAgreement
from svc.evaluation.pitch.contenders import Contender, Missing
from svc.evaluation.pitch.metrics import PitchScore
from svc.evaluation.tables import markdown_table, number

_WORST_FILES = 10


def accuracy_records(
    rows: Sequence[AccuracyRow], contenders: Sequence[Contender]
) -> list[dict[str, Any]]:
    """One flat record per row, the real-time factor of its tracker at the end."""
    speed = {contender.name: contender.real_time_factor for contender in contenders}
    return [
        {"tracker": row.tracker, "condition": row.condition, "exercise": row.exercise}
        | {f.name: getattr(row.score, f.name) for f in fields(PitchScore)}
        | {"real_time_factor": speed[row.tracker]}
        for row in rows
    ]


def accuracy_markdown(
    rows: Sequence[AccuracyRow],
    contenders: Sequence[Contender],
    missing: Sequence[Missing],
    circumstances: str,
) -> str:
    """Tables of a measurement against the truth."""
    cells = {(row.tracker, row.condition, row.exercise): row.score for row in rows}
    conditions = list(dict.fromkeys(row.condition for row in rows))
    exercises = list(dict.fromkeys(row.exercise for row in rows if row.exercise != ALL))
    names = [contender.name for contender in contenders]

    def by(columns: Sequence[str], of: str, *, condition: str | None = None) -> str:
        lines = []
        for name in names:
            keys = [(name, condition or c, c if condition else ALL) for c in columns]
            lines.append([name, *(_percent(getattr(cells[key], of)) for key in keys)])
        return markdown_table(["tracker", *columns], lines)

    parts = [
        "# Accuracy of pitch trackers",
        circumstances,
        f"## Everything, {conditions[0]}",
        accuracy_overview(rows, contenders, missing),
        "Shares in percent. Raw pitch and chroma accuracy, voicing recall and false alarm and "
        "overall accuracy as in Poliner et al., IEEE TASLP 15(4), 2007; a pitch is right within 50 "
        "cents. Octave errors and the median distance are taken over the frames that truth and "
        "tracker call voiced. The real-time factor is seconds of computing per second of audio, "
        "over all conditions.",
        "## Raw pitch accuracy by condition",
        by(conditions, "raw_pitch_accuracy"),
        "## Voicing recall by condition",
        by(conditions, "voicing_recall"),
        "## Voicing false alarm by condition",
        by(conditions, "voicing_false_alarm"),
        "## Octave errors by condition",
        by(conditions, "octave_error_share"),
        f"## Raw pitch accuracy by kind of singing, {conditions[0]}",
        by(exercises, "raw_pitch_accuracy", condition=conditions[0]),
    ]
    return "\n\n".join(parts) + "\n"


def accuracy_overview(
    rows: Sequence[AccuracyRow], contenders: Sequence[Contender], missing: Sequence[Missing]
) -> str:
    """A line per tracker over everything under the first condition, and what the others lack."""
    scores = {row.tracker: row.score for row in reversed(rows) if row.exercise == ALL}
    header = ["tracker", "raw pitch", "raw chroma", "voicing recall", "voicing false alarm"]
    header += ["overall", "octave errors", "median cents", "real-time factor"]
    lines = []
    for contender in contenders:
        score = scores[contender.name]
        shares = (
            score.raw_pitch_accuracy,
            score.raw_chroma_accuracy,
            score.voicing_recall,
            score.voicing_false_alarm,
            score.overall_accuracy,
            score.octave_error_share,
        )
        cents = number(score.median_abs_cents, ".1f")
        speed = number(contender.real_time_factor, ".3g")
        lines.append([contender.name, *map(_percent, shares), cents, speed])
    lines += [[m.name, *["–"] * (len(header) - 1)] for m in missing]
    table = markdown_table(header, lines)
    return "\n\n".join([table, *missing_lines(missing)])


def missing_lines(missing: Sequence[Missing]) -> list[str]:
    """A line for each tracker that could not take part."""
    return [f"{m.name} did not take part: {' '.join(m.reason.split())}" for m in missing]


def agreement_records(agreement: Agreement) -> list[dict[str, Any]]:
    """One flat record per pair of trackers."""
    return [
        {
            "tracker": one,
            "other": other,
            "within_50_cents": counts.within_50_cents,
            "octave_disagreement": counts.octave_disagreement,
            "voicing_disagreement": counts.voicing_disagreement,
            "both_voiced_frames": counts.both_voiced,
            "frames": counts.frames,
        }
        for (one, other), counts in agreement.pairs.items()
    ]


def file_records(agreement: Agreement) -> list[dict[str, Any]]:
    """One record per file, the most disputed first, with its longest disputed spans."""
    return [asdict(file) for file in agreement.worst_first()]


def agreement_overview(
    agreement: Agreement, contenders: Sequence[Contender], missing: Sequence[Missing]
) -> str:
    """A line per pair of trackers, their speed, what the others lack, and what was not read."""
    shares = ("within_50_cents", "octave_disagreement", "voicing_disagreement")
    pairs = [
        [f"{record['tracker']}, {record['other']}", *(_percent(record[s]) for s in shares)]
        for record in agreement_records(agreement)
    ]
    speeds = [[c.name, number(c.real_time_factor, ".3g")] for c in contenders]
    parts = [
        markdown_table(["trackers", "within 50 cents", "octaves apart", "voicing differs"], pairs),
        "In percent; the first two of the frames that both call voiced, the last of all frames.",
        markdown_table(["tracker", "real-time factor"], speeds),
        *missing_lines(missing),
    ]
    if agreement.skipped:
        lines = [f"- {name}: {reason}" for name, reason in agreement.skipped]
        parts.append("\n".join([f"Not read: {len(lines)}", "", *lines]))
    return "\n\n".join(parts)


def agreement_markdown(
    agreement: Agreement,
    contenders: Sequence[Contender],
    missing: Sequence[Missing],
    circumstances: str,
) -> str:
    """Tables of how far trackers agree, and where they do not."""
    worst = [file for file in agreement.worst_first() if file.spans][:_WORST_FILES]
    parts = [
        "# Agreement of pitch trackers",
        circumstances,
        agreement_overview(agreement, contenders, missing),
        "## Files with the most disputed time",
        *(_file_lines(file) for file in worst),
        *([] if worst else ["The trackers agree throughout."]),
    ]
    return "\n\n".join(parts) + "\n"


def _file_lines(file: FileAgreement) -> str:
    lines = [
        f"**{file.name}**: {file.disputed_s:.1f} of {file.duration_s:.1f} s, "
        f"{_percent(file.disputed_share)} % of what two or more call voiced.",
        "",
    ]
    for span in file.spans:
        heard = ", ".join(
            f"{name} {hz:.0f} Hz" if math.isfinite(hz) else f"{name} unvoiced"
            for name, hz in span.f0_hz.items()
        )
        lines.append(f"- {span.start_s:.2f} to {span.stop_s:.2f} s: {heard}")
    return "\n".join(lines)


def _percent(value: float) -> str:
    return number(100 * value, ".1f")
