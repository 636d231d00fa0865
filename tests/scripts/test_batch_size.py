"""The search for the largest batch runs by itself, on whatever device there is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks" / "batch_size.py"


@pytest.mark.slow
def test_it_prints_what_fits() -> None:
    command = [sys.executable, str(SCRIPT), "diffsvc_tiny", "--trainer", "cpu", "--most", "8"]
    done = subprocess.run([*command, "data.crop_frames=8"], check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout)["diffsvc_tiny"]
    assert list(found["measured_gib"]) == ["1", "2", "4"]
    assert found["batch_size"] == 8
    assert 0 < found["line_gib"]["at_batch_size"] < found["budget_gib"]
    assert found["gather"]["differs_from_files"] == []
