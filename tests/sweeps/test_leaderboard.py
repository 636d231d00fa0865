"""The jobs of a sweep as a table, a page, and on Weights & Biases."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from svc.sweeps.job_record import JobRecord, JobState, read_job, write_job
from svc.sweeps.leaderboard import Leaderboard, counted, read_leaderboard, write_leaderboard
from svc.training.run_summary import RunSummary, write_summary

SHARED = ["experiment=demo", "dataset.path='a, <b> & c'"]


def job(
    sweep: Path,
    number: int,
    settings: Sequence[str],
    state: JobState = "done",
    reason: str = "",
    **summary: Any,
) -> Path:
    """A job's folder, as a run leaves it."""
    folder = sweep / f"job {number}"
    write_job(folder, JobRecord(number, [*settings, *SHARED], state, reason))
    if summary:
        defaults = {"steps": 20, "steps_per_s": 2.5, "peak_memory_gib": 1.25, "wall_s": 90.0}
        write_summary(folder, RunSummary(**{**defaults, **summary}))
        (folder / "run.yaml").touch()
        for step in (999_999, 1_000_000):
            samples = folder / "samples" / f"step_{step:06d}"
            samples.mkdir(parents=True)
            for name in ("0_target.wav", "0_prediction.wav", "1_target.wav", "0_mel.png"):
                (samples / name).touch()
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "my sweep"
    job(folder, 0, ["+optim.lr=1e-4", "arch=diffsvc"], metrics={"valid_loss": 0.5, "valid_x": 7.0})
    job(folder, 1, ["optim.lr=2e-4", "arch=diffsvc"], metrics={"valid_loss": 0.25}, pruned=True)
    job(folder, 2, ["optim.lr=1e-4", "arch=hifisinger"], "failed", "a <fault>\nof two lines")
    job(folder, 3, ["optim.lr=2e-4", "arch=hifisinger"], "skipped", "no device")
    job(folder, 4, ["optim.lr=3e-4"], "running")
    job(folder, 5, ["optim.lr=4e-4", "arch=diffsvc"], metrics={}, steps_per_s=None)
    return folder


@pytest.fixture
def board(sweep: Path) -> Leaderboard:
    return read_leaderboard(sweep)


def test_the_best_comes_first_and_what_has_no_score_last(board: Leaderboard) -> None:
    assert [(e.job.number, e.state) for e in board.entries] == [
        (1, "pruned"),
        (0, "done"),
        (5, "done"),
        (4, "killed"),
        (3, "skipped"),
        (2, "failed"),
    ]
    assert counted(board.entries) == "6 jobs: 1 pruned, 2 done, 1 killed, 1 skipped, 1 failed"
    assert counted(board.entries[:1]) == "1 job: 1 pruned"


def test_the_table_has_what_was_swept_and_what_came_of_it(sweep: Path, board: Leaderboard) -> None:
    write_leaderboard(board)
    with (sweep / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    swept = ["optim.lr", "arch"]
    figures = ["steps", "steps_per_s", "peak_memory_gib", "wall_s"]
    metrics = ["valid_loss", "valid_x"]
    heads = ["job", "state", *swept, *metrics, *figures, "reason", "run", "audio"]
    assert list(rows[0]) == heads
    audio = "job 1/samples/step_1000000/0_prediction.wav"
    best = ["1", "pruned", "2e-4", "diffsvc", "0.25", "", "20", "2.5", "1.25", "90.0"]
    assert list(rows[0].values()) == [*best, "", "job 1", audio]
    assert list(rows[-1].values())[-3:] == ["a <fault>\nof two lines", "job 2", ""]
    assert rows[3]["arch"] == ""


def test_the_page_links_to_what_is_there_and_needs_nothing_else(
    sweep: Path, board: Leaderboard
) -> None:
    page = write_leaderboard(board).read_text(encoding="utf-8")
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert all((sweep / unquote(link)).exists() for link in links)
    assert sum(link.endswith("_prediction.wav") for link in links) == 3
    assert "a &lt;fault&gt;" in page
    assert "<fault>" not in page
    assert "<dt>experiment</dt><dd>demo</dd>" in page
    assert len(page) < 20_000


def test_only_a_job_with_a_score_is_the_best(tmp_path: Path) -> None:
    job(tmp_path, 0, ["seed=1"], metrics={})
    assert 'class="best"' not in write_leaderboard(read_leaderboard(tmp_path)).read_text()
    job(tmp_path, 1, ["seed=2"], metrics={"valid_loss": 0.5})
    assert write_leaderboard(read_leaderboard(tmp_path)).read_text().count('class="best"') == 1


def test_a_job_is_running_until_the_sweep_has_ended(sweep: Path) -> None:
    states = [e.state for e in read_leaderboard(sweep, ended=False).entries]
    assert "running" in states
    assert "killed" not in states


def test_a_sweep_that_was_moved_without_its_runs_links_to_none(sweep: Path, tmp_path: Path) -> None:
    for file in sweep.rglob("*.json"):
        moved = tmp_path / "moved" / file.relative_to(sweep)
        moved.parent.mkdir(parents=True, exist_ok=True)
        moved.write_bytes(file.read_bytes())
    board = read_leaderboard(tmp_path / "moved")
    assert len(board.entries) == 6
    page = write_leaderboard(board).read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="([^"]+)"', page) == ["leaderboard.csv"]


def test_what_is_no_record_is_no_job(sweep: Path) -> None:
    for number, content in enumerate(("", "[]", '{"number": 1}')):
        (sweep / f"job {number}" / "job.json").write_text(content)
        assert read_job(sweep / f"job {number}") is None
    assert [e.job.number for e in read_leaderboard(sweep).entries] == [5, 4, 3]


@pytest.mark.slow
def test_the_table_on_wandb_is_the_same(
    sweep: Path, board: Leaderboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svc.sweeps.wandb_table import log_leaderboard
    from svc.training.wandb_record import read_records

    monkeypatch.delenv("WANDB_MODE", raising=False)
    log_leaderboard(board, {"project": "svc", "offline": True})
    (run,) = sweep.glob("wandb/offline-run-*")
    (table,) = run.glob("files/media/table/leaderboard_*.table.json")
    content = json.loads(table.read_text(encoding="utf-8"))
    write_leaderboard(board)
    with (sweep / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        heads, *rows = csv.reader(file)
    assert content["columns"] == heads
    shown = [["" if cell is None else str(cell) for cell in row] for row in content["data"]]
    assert [[_same(cell) for cell in row] for row in shown] == [
        [_same(cell) for cell in row] for row in rows
    ]
    (record,) = run.glob("run-*.wandb")
    names = [r.run.display_name for r in read_records(record) if r.HasField("run")]
    assert names == ["leaderboard of my sweep"]


def _same(cell: str) -> str | float:
    """20 and 20.0 are the same number."""
    try:
        return float(cell)
    except ValueError:
        return cell
