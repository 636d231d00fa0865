"""`svc-train` killed at any moment, and started again, ends where it would have ended."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from svc.data.store import FeatureStore

pytestmark = pytest.mark.slow

STEPS = 24
SAVE_EVERY = 3
PATIENCE_S = 180.0
SETTINGS = (
    "experiment=demo",
    "trainer=cpu",
    "dataset.minutes_per_singer=0.9",
    "dataset.singers=2",
    "preparation.workers=2",
    f"trainer.max_steps={STEPS}",
    "trainer.validate_every_steps=10",
    "trainer.limit_val_batches=1",
    "trainer.log_every_steps=1",
    f"callbacks.checkpoints.every_steps={SAVE_EVERY}",
    "callbacks.samples.count=1",
    "data.batch_size=2",
    "data.crop_frames=16",
    "data.workers=0",
    "arch.adversarial.start_step=2",
    "arch.adversarial.r1_weight=1.0",
    "arch.adversarial.r1_every_steps=4",
    "arch.generator.conditioner.channels=8",
    "arch.generator.backbone.channels=8",
    "arch.generator.backbone.layers=2",
    "arch.generator.backbone.out_channels=8",
    "arch.discriminator.periods.channels=[2,4,4,4,4]",
    "arch.discriminator.scales.width=0.03125",
    "vocoder.initial_channels=32",
)
Condition = Callable[[Path], bool]


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`svc-train` in a process group of its own, so that its workers can be found afterwards."""
    # Shells start background jobs with the interrupt ignored, which is inherited, and Python leaves
    # it so; these tests may be part of such a job.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from svc.cli.train import main; main()"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SVC_DEBUG": "1"}
    for name in ("SVC_DATA_DIR", "SVC_OUTPUT_DIR"):
        environment.pop(name, None)
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-c", program, *SETTINGS, *arguments],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def said(folder: Path) -> str:
    return (folder / "said.txt").read_text(errors="replace")[-4000:]


def finish(folder: Path, *arguments: str) -> None:
    assert start(folder, *arguments).wait(PATIENCE_S) == 0, said(folder)


def kill_when(folder: Path, reached: Condition, *arguments: str) -> bool:
    """Start, kill -9 as soon as a condition holds; -> whether it did before the run was done."""
    process = start(folder, *arguments)
    give_up = time.monotonic() + PATIENCE_S
    try:
        while not reached(folder):
            if process.poll() is not None:
                assert process.returncode == 0, said(folder)
                return False
            assert time.monotonic() < give_up, said(folder)
            time.sleep(0.002)
        # Only the command, as the kernel does it for want of memory; its workers must notice.
        process.kill()
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
        return True
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def at_least(pattern: str, count: int) -> Condition:
    """So many files match."""
    return lambda folder: len(list(folder.glob(pattern))) >= count


def logged(steps: int) -> Condition:
    """So many updates are in the metrics of the run, over all its continuations."""

    def reached(folder: Path) -> bool:
        lines = 0
        for file in folder.glob("outputs/demo/*/metrics/*/metrics.csv"):
            lines = max(lines, *(_step(line) for line in file.read_text().splitlines()[1:]), 0)
        return lines >= steps

    return reached


def _step(line: str) -> int:
    numbers = [field for field in line.split(",") if field.isdigit()]
    return max(map(int, numbers), default=0)


def half_written_checkpoint(folder: Path) -> bool:
    return any(folder.glob("outputs/demo/*/checkpoints/.*.unfinished"))


def checkpoint(folder: Path) -> Path | None:
    found = list(folder.glob("outputs/demo/*/checkpoints/last.ckpt"))
    assert len(found) <= 1, "a continuation made a checkpoint in another folder"
    return found[0] if found else None


def require_whole_files(folder: Path) -> None:
    """Every file under its final name can be read to its end."""
    for path in folder.glob("outputs/demo/*/checkpoints/*.ckpt"):
        torch.load(path, weights_only=True)
    for path in folder.glob("data/prepared/*/features/**/*.npy"):
        if not path.name.startswith("."):
            np.load(path)
    for path in folder.glob("outputs/demo/*/run.yaml"):
        assert yaml.safe_load(path.read_text())["run_name"] == "demo"


def store_bytes(folder: Path) -> dict[str, bytes]:
    """Everything in the store that training reads, by its place."""
    (store,) = folder.glob("data/prepared/*")
    FeatureStore.open(store)
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name not in (".lock", "report.json")
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Everything learnt: networks, moving average, and the optimisers' moments."""
    path = checkpoint(folder)
    assert path is not None
    state = torch.load(path, weights_only=True)
    assert state["global_step"] == STEPS
    tensors: dict[str, torch.Tensor] = {}
    collect(state["state_dict"], "weights", tensors)
    collect(state["optimizer_states"], "optimizers", tensors)
    assert any("ema.network" in name for name in tensors)
    assert any("exp_avg" in name for name in tensors)
    return tensors


def collect(node: Any, place: str, tensors: dict[str, torch.Tensor]) -> None:
    if isinstance(node, torch.Tensor):
        tensors[place] = node
    elif isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in items:
            collect(child, f"{place}/{key}", tensors)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(folder)
    return folder


def test_killed_runs_end_with_the_same_store_and_the_same_weights(
    uninterrupted: Path, tmp_path: Path
) -> None:
    moments = random.Random(3)
    preparing: list[Condition] = [
        at_least("data/.demo.partial/*/*.wav", moments.randint(1, 8)),
        at_least("data/prepared/*/features/**/*.npy", moments.randint(1, 12)),
        at_least("data/prepared/*/sources/*.json", moments.randint(6, 11)),
    ]
    training: list[Condition] = [
        logged(moments.randint(1, SAVE_EVERY - 1)),  # before the first checkpoint
        logged(moments.randint(SAVE_EVERY + 1, 8)),
        half_written_checkpoint,
        logged(moments.randint(14, STEPS - 4)),
    ]
    kills = [kill_when(tmp_path, reached) for reached in preparing]
    require_whole_files(tmp_path)
    for reached in training:
        resume = ["resume=auto"] if checkpoint(tmp_path) else []
        kills.append(kill_when(tmp_path, reached, *resume))
        require_whole_files(tmp_path)
    assert all(kills), f"not every kill came in time: {kills}"

    finish(tmp_path, "resume=auto")
    assert store_bytes(tmp_path) == store_bytes(uninterrupted)
    learnt, expected = weights(tmp_path), weights(uninterrupted)
    assert learnt.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(learnt[name], expected[name])]
    assert different == []
    leftovers = [p for p in tmp_path.rglob(".*") if p.name.endswith((".unfinished", ".tmp"))]
    assert leftovers == []


@pytest.mark.parametrize(
    "reached",
    [
        at_least("data/prepared/*/sources/*.json", 3),
        lambda folder: logged(SAVE_EVERY + 1)(folder) and checkpoint(folder) is not None,
    ],
    ids=["preparing", "training"],
)
def test_interrupting_by_hand_keeps_what_was_finished(reached: Condition, tmp_path: Path) -> None:
    process = start(tmp_path)
    give_up = time.monotonic() + PATIENCE_S
    while not reached(tmp_path):
        assert process.poll() is None, said(tmp_path)
        assert time.monotonic() < give_up, said(tmp_path)
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it, too
    assert process.wait(PATIENCE_S) == 130, said(tmp_path)
    require_whole_files(tmp_path)
    assert said(tmp_path).rstrip().endswith("interrupted; what was finished is kept.")
    assert "Traceback" not in said(tmp_path)
