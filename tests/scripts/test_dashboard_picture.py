"""The picture of a run's curves."""

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from matplotlib.image import imread

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "dashboard_picture.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboard_picture", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(run: Path, version: int, columns: dict[str, list[str]]) -> None:
    path = run / "metrics" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))


def test_panels_that_the_run_has_metrics_for(script: ModuleType, tmp_path: Path) -> None:
    curves = {
        "step": ["0", "2", "4", "6"],
        "valid_loss": ["", "", "2.0", "1.0"],
        "disc_accuracy": ["", "0.5", "0.9", "0.7"],
        "grad_norm/generator": ["", "100", "10", "1"],
        "alarm/diverged": ["0", "", "1", ""],
        "another": ["1", "1", "1", "1"],
    }
    written(tmp_path / "run", 0, curves)
    drawn: list[str] = []
    original = script._draw_panel
    script._draw_panel = lambda axis, panel, c: (
        drawn.append(panel.title),
        original(axis, panel, c),
    )
    script.draw(tmp_path / "run", tmp_path / "picture.png")
    assert drawn == ["Validation loss", "Right answers", "Gradient norms", "Alarms"]
    picture = imread(tmp_path / "picture.png")
    assert picture.shape[1] > picture.shape[0] > 100
    assert picture[..., :3].std() > 0.02


def test_a_continued_run_is_one_curve(script: ModuleType, tmp_path: Path) -> None:
    """Killed after step 7 with a checkpoint at 4; version 10 comes after version 2."""
    written(
        tmp_path,
        2,
        {
            "step": ["2", "4", "6", "7"],
            "train_loss": ["8", "7", "6", ""],
            "lost": ["", "", "1", "1"],
        },
    )
    written(
        tmp_path, 10, {"step": ["4", "6", "8"], "train_loss": ["", "5", "4"], "new": ["0", "", ""]}
    )
    written(tmp_path, 11, {"step": []})
    assert script.curves_of(tmp_path) == {
        "train_loss": ([2, 4, 6, 8], [8.0, 7.0, 5.0, 4.0]),
        "new": ([4], [0.0]),
    }


def test_what_is_no_run_is_told(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written(tmp_path / "run", 0, {"step": ["1"], "another": ["1"]})
    for place, complaint in (("run", "no metric of a training run"), ("missing", "There is no")):
        arguments = ["dashboard_picture.py", str(tmp_path / place), str(tmp_path / "p.png")]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            script.main()
        assert ended.value.code == 2
        assert complaint in capsys.readouterr().err
