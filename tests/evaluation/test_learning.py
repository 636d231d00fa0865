"""The proof that it learns: the whole demo, as `make demo` runs it, against the exact truth."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"


@pytest.mark.slow
def test_the_demo_learns_a_voice(tmp_path: Path) -> None:
    # One thread, because other tests run beside this one: threads that fight are ten times slower.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    output = tmp_path / "outputs" / "demo"
    for name in ("source.wav", "converted.wav", "truth.wav", "mels.png", "report.html"):
        assert (output / name).stat().st_size > 1000, name
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    for found in (
        metrics["held_out"],
        {
            "mcd_reduction_percent": metrics["phrase"]["mcd_reduction_percent"],
            "f0_median_abs_cents": metrics["phrase"]["f0"]["median_abs_cents"],
            "voicing_error_share": metrics["phrase"]["f0"]["voicing_error_share"],
        },
    ):
        assert found["mcd_reduction_percent"] >= 30
        assert found["f0_median_abs_cents"] <= 20
        assert found["voicing_error_share"] < 0.10
    # The control: content in random order must do clearly worse, or the figure measures nothing.
    shuffled = metrics["held_out_shuffled_content"]["mcd_reduction_percent"]
    assert shuffled < metrics["held_out"]["mcd_reduction_percent"] - 20
