"""`svc-preprocess` in shards: what is typed, who runs them, and what comes of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Terminal
from store_material import snapshot, write_dataset

CHEAP = ("dataset.path=recordings", "content=mfcc")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Four good recordings of two speakers, and one that is no audio."""
    folder = write_dataset(tmp_path / "recordings", files=2, seconds=1.0)
    (folder / "anna" / "broken.wav").write_bytes(b"RIFF, but no audio")
    return folder


def store_of(folder: Path) -> Path:
    (store,) = folder.glob("data/prepared/*")
    return store


@pytest.mark.usefixtures("recordings")
def test_shards_one_after_the_other_and_a_merge(terminal: Terminal) -> None:
    merge = (*CHEAP, "shard.count=2", "shard.merge=true")
    # One of the shards cannot be, which does not stop those after it.
    message = terminal.refused("svc-preprocess", "-m", *CHEAP, "shard.count=2", "shard.index=5,1")
    assert message.startswith("svc-preprocess: shard.index=5 must be from 0 to 1")
    message = terminal.refused("svc-preprocess", *merge)
    assert "3 of 5 recording(s)" in message
    assert "shard.count=2 shard.index=0: " in message
    assert "shard.index=1" not in message
    said = terminal("svc-preprocess", *CHEAP, "shard.count=2", "shard.index=0")
    assert "shard.index=0 of shard.count=2: 3 recording(s) extracted" in said.out
    said = terminal("svc-preprocess", *merge)
    assert "0 recording(s) extracted, 4 unchanged, 0 removed, 1 skipped." in said.out
    assert {path.name for path in terminal.folder.iterdir()} == {"data", "recordings"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shard.count=2", "shard.index=2"], "shard.index=2 must be from 0 to 1"),
        (["shard.number=2"], "shard.number is not a setting"),
        (["-m", "shard.merge=true", "shard.count=2"], "leave out shard.index and -m"),
        (["-m", "hydra/launcher=submitit_slum"], r"pip install 'svc[submitit]'"),
    ],
)
@pytest.mark.usefixtures("recordings")
def test_mistakes_are_refused(arguments: list[str], words: str, terminal: Terminal) -> None:
    assert words in terminal.refused("svc-preprocess", *arguments, *CHEAP)
    assert {path.name for path in terminal.folder.iterdir()} == {"recordings"}


def test_training_knows_no_shards(terminal: Terminal) -> None:
    assert "shard.count is not a setting" in terminal.refused("svc-train", "shard.count=2", *CHEAP)


LAUNCHERS = {
    "joblib": ["hydra.launcher.n_jobs=2"],
    "ray": [
        "hydra.launcher.ray.init.address=local",  # not one that happens to run here
        "+hydra.launcher.ray.init.num_cpus=2",
        "+hydra.launcher.ray.init.include_dashboard=no",
    ],
}


def run_in_processes(folder: Path, launcher: str, *arguments: str) -> subprocess.CompletedProcess:  # type: ignore[type-arg]
    """Run a multirun in processes of the launcher, from an empty folder."""
    pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher")
    command = [str(Path(sys.executable).parent / "svc-preprocess"), "-m", *CHEAP, *arguments]
    quiet = {"HOME": str(folder.parent), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, f"hydra/launcher={launcher}", *LAUNCHERS[launcher]],
        cwd=folder,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.usefixtures("recordings")
def test_processes_of_a_launcher_fill_one_store(launcher: str, terminal: Terminal) -> None:
    # One of the shards cannot be, which must neither stop the others nor go unnoticed.
    ended = run_in_processes(terminal.folder, launcher, "shard.count=2", "shard.index=0,7,1")
    assert ended.returncode == 2, ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.startswith("svc-preprocess: ")]
    assert len(told) == 1, ended.stderr
    assert "shard.index=7 must be from 0 to 1" in told[0]
    assert "Traceback" not in ended.stderr
    merged = terminal("svc-preprocess", *CHEAP, "shard.count=2", "shard.merge=true")
    assert "0 recording(s) extracted, 4 unchanged, 0 removed, 1 skipped." in merged.out
    assert {path.name for path in terminal.folder.iterdir()} == {"data", "recordings"}
    sharded = snapshot(store_of(terminal.folder))
    terminal("svc-preprocess", *CHEAP, "paths.store_dir=whole")
    assert sharded == snapshot(terminal.folder / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("recordings")
def test_a_multirun_without_faults_ends_well(terminal: Terminal) -> None:
    ended = run_in_processes(terminal.folder, "joblib", "shard.count=2", "shard.index=range(2)")
    assert ended.returncode == 0, ended.stderr
    assert "shard.index=1 of shard.count=2" in ended.stdout
