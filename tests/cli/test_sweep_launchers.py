"""A sweep of svc-train whose jobs run in processes of a launcher."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.test_processes import TINY

SWEEP = (
    *(typed for typed in TINY if not typed.startswith(("trainer.devices", "hydra.run.dir"))),
    "dataset.minutes_per_singer=0.4",
    "hydra.sweep.dir=sweep",
    "seed=1,2",
)
LAUNCHERS = {
    "joblib": ("joblib", ["hydra.launcher.n_jobs=2"]),
    "ray": (
        "ray",
        [
            "hydra.launcher.ray.init.address=local",  # not one that happens to run here
            "+hydra.launcher.ray.init.num_cpus=1",
            "+hydra.launcher.ray.init.include_dashboard=no",
        ],
    ),
    "submitit_local": ("submitit", []),
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_jobs_of_a_launcher_get_onto_the_leaderboard(launcher: str, tmp_path: Path) -> None:
    plug_in, options = LAUNCHERS[launcher]
    pytest.importorskip(f"hydra_plugins.hydra_{plug_in}_launcher")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "svc.cli.train", "-m", *SWEEP),
            *("trainer=cpu,t4_fp16", f"hydra/launcher={launcher}", *options),
        ],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "4 jobs: 2 done, 2 skipped" in done.stderr
    with (tmp_path / "sweep" / "leaderboard.csv").open(encoding="utf-8") as file:
        board = list(csv.DictReader(file))
    assert {(row["trainer"], row["seed"], row["state"]) for row in board} == {
        ("cpu", "1", "done"),
        ("cpu", "2", "done"),
        ("t4_fp16", "1", "skipped"),
        ("t4_fp16", "2", "skipped"),
    }
    assert all((tmp_path / "sweep" / row["audio"]).is_file() for row in board[:2])
    assert float(board[0]["valid_loss"]) <= float(board[1]["valid_loss"])
