"""The table of what fine-tuning brings is made by the commands that a user would type."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "finetuning_table.py"


@pytest.mark.slow
def test_a_few_steps_of_every_way_give_a_table(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--fast"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    output = tmp_path / "outputs" / "finetuning"
    with (output / "table.csv").open() as file:
        rows = {row["way"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["from scratch", "from scratch, lr 2e-3", "fine-tuning all", "LoRA"]
    assert {row["steps"] for row in rows.values()} == {"2"}
    assert all(float(row["final_mcd_db"]) > 0 for row in rows.values())
    # An adapter is a small part of a model.
    sizes = {name: int(row["file_bytes"]) for name, row in rows.items()}
    assert sizes["LoRA"] < sizes["fine-tuning all"] / 4
    assert sizes["fine-tuning all"] == pytest.approx(sizes["from scratch"], rel=0.01)
    assert (output / "curve.png").stat().st_size > 10_000
