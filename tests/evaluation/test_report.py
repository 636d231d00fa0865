"""The page and its numbers."""

import json
import math
import re
from pathlib import Path

from svc.evaluation.conversion import ConversionMetrics, UnpairedMetrics
from svc.evaluation.metrics.f0 import F0Errors
from svc.evaluation.report import (
    Clip,
    Report,
    Section,
    explain_pair,
    explain_unpaired,
    write_report,
)

GOOD_F0 = F0Errors(5.0, 0.99, 0.0, 0.02, 400)
BAD_F0 = F0Errors(25.0, 0.6, 0.1, 0.2, 400)


def pair_metrics(f0: F0Errors, reduction_percent: float) -> ConversionMetrics:
    return ConversionMetrics(8.0, 4.0, reduction_percent, 1.0, 0.5, -1.25, f0, GOOD_F0)


def test_page_links_escapes_and_holds_everything(tmp_path: Path) -> None:
    folder = tmp_path / "my report"
    report = Report(
        title="A <b> & c",
        introduction=["First.", "Second."],
        sections=[
            Section("Listen", clips=[Clip("Source", folder / "wav" / "ä 1#.wav", "as recorded")]),
            Section("Numbers", rows=explain_pair(pair_metrics(GOOD_F0, 50.0))),
            Section("Pictures", pictures=[Clip("Mels", tmp_path / "mels.png")]),
        ],
        metrics={"pair": pair_metrics(GOOD_F0, 50.0), "list": [math.nan, 1.5], "path": folder},
        settings={"model": "tiny"},
    )
    page = write_report(folder, report).read_text(encoding="utf-8")
    assert "<title>A &lt;b&gt; &amp; c</title>" in page
    assert 'src="wav/%C3%A4%201%23.wav"' in page
    assert 'src="../mels.png"' in page
    assert page.count("<audio ") == 1
    assert "50 %" in page
    assert "-1.2 dB" in page
    # Nothing is fetched from elsewhere.
    assert not re.search(r"(src|href)=\"(https?:)?//", page)


def test_metrics_are_plain_json(tmp_path: Path) -> None:
    metrics = {"pair": pair_metrics(BAD_F0, -3.0), "list": (math.nan, math.inf, 1.5)}
    write_report(tmp_path, Report("t", [], [], metrics))
    plain = json.loads((tmp_path / "metrics.json").read_text())
    assert plain["list"] == [None, None, 1.5]
    assert plain["pair"]["mcd_reduction_percent"] == -3.0
    assert plain["pair"]["f0"]["median_abs_cents"] == 25.0


def test_targets_are_judged() -> None:
    verdicts = [row.passed for row in explain_pair(pair_metrics(GOOD_F0, 30.0))]
    assert [v for v in verdicts if v is not None] == [True, True, True]
    verdicts = [row.passed for row in explain_pair(pair_metrics(BAD_F0, 29.9))]
    assert [v for v in verdicts if v is not None] == [False, False, False]
    unpaired = UnpairedMetrics(5.0, 2.0, 60.0, 0.5, BAD_F0)
    assert all(row.passed is None for row in explain_unpaired(unpaired))


def test_every_row_explains_itself() -> None:
    rows = explain_pair(pair_metrics(GOOD_F0, 50.0))
    rows += explain_unpaired(UnpairedMetrics(5.0, 2.0, 60.0, 0.5, GOOD_F0))
    assert all(len(row.explanation) > 20 for row in rows)
