"""A run that was stopped or killed ends with the very same weights as one that was not."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from svc.errors import UserError
from svc.training.network_module import NetworkModule
from svc.training.runs import (
    checkpoint_to_resume,
    find_resumable_run,
    fit,
    write_run_file,
)
from training import tiny_training
from training.tiny_training import TinyData, tiny_module, tiny_trainer

STEPS = 8


class Recorder(Callback):
    """Which steps were validated; a copy of the last checkpoint after every step."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.validated: list[int] = []

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.validated.append(trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        last = self.run_dir / "checkpoints" / "last.ckpt"
        if last.is_file():
            shutil.copyfile(last, self.run_dir / f"step_{trainer.global_step}.ckpt")


def run(run_dir: Path, resume_from: Path | None = None) -> tuple[TinyData, Recorder]:
    data, recorder = TinyData(), Recorder(run_dir)
    trainer = tiny_trainer(run_dir, STEPS, [recorder], save_every_steps=1)
    fit(trainer, tiny_module(), data, resume_from)
    assert trainer.global_step == STEPS
    return data, recorder


def state(path: Path) -> dict[str, Any]:
    checkpoint = torch.load(path, weights_only=True)
    keys = ("state_dict", "optimizer_states", "lr_schedulers", "svc", "global_step", "epoch")
    return {key: checkpoint[key] for key in keys}


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Equal to the bit, all the way down."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{path}/{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, with the checkpoints that it had after each step."""
    torch.set_num_threads(1)
    run_dir = tmp_path_factory.mktemp("straight")
    data, recorder = run(run_dir)
    assert data.taken == list(range(STEPS))
    assert recorder.validated == [3, 6, 8]
    return run_dir


@pytest.mark.parametrize(
    "begun",
    [3, 5, 7],
    ids=["after validation", "end of epoch", "within epoch 2"],
)
def test_resumed_run_ends_with_the_same_state(straight: Path, tmp_path: Path, begun: int) -> None:
    data, recorder = run(tmp_path, straight / f"step_{begun}.ckpt")

    assert data.taken == list(range(begun, STEPS))
    assert recorder.validated == [step for step in (3, 6, 8) if step > begun]
    assert_same(
        state(tmp_path / "checkpoints" / "last.ckpt"), state(straight / "checkpoints" / "last.ckpt")
    )


def test_finished_run_resumes_to_nothing(straight: Path, tmp_path: Path) -> None:
    data, recorder = run(tmp_path, straight / "checkpoints" / "last.ckpt")
    assert data.taken == []
    assert recorder.validated == []


class Killed(Exception):
    """In place of a signal that nobody can catch."""


class KillBeforeBatch(Callback):
    """Ends a run without a chance to save."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        module = trainer.lightning_module
        assert isinstance(module, NetworkModule)
        if module.progress.batches_seen == self.batch:
            raise Killed


def test_nothing_is_saved_while_gradients_are_being_accumulated(tmp_path: Path) -> None:
    """Not even right after a run has gone on at a step at which saving is due."""

    def train(run_dir: Path, *callbacks: Callback, resume_from: Path | None = None) -> Path:
        trainer = tiny_trainer(run_dir, 6, list(callbacks), save_every_steps=1)
        fit(trainer, tiny_module(accumulate_batches=3), TinyData(), resume_from)
        return run_dir / "checkpoints" / "last.ckpt"

    whole = state(train(tmp_path / "whole"))
    last = tmp_path / "checkpoints" / "last.ckpt"
    for killed_at, saved in ((7, 6), (8, 6), (13, 12)):
        with pytest.raises(Killed):
            train(
                tmp_path, KillBeforeBatch(killed_at), resume_from=last if last.is_file() else None
            )
        assert state(last)["svc"]["progress"]["batches_seen"] == saved
    assert_same(state(train(tmp_path, resume_from=last)), whole)


@pytest.mark.slow
def test_killed_process_resumes_to_the_same_weights(straight: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(Path(tiny_training.__file__)), str(tmp_path), str(STEPS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    last = tmp_path / "checkpoints" / "last.ckpt"
    for kill_after in (3, 6):
        resume = [str(last)] if last.is_file() else []
        with subprocess.Popen(
            [*script, *resume], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            while int(process.stdout.readline()) < kill_after:
                pass
            process.send_signal(signal.SIGKILL)
        # Whole, and not older than the interval between writings (2) and the step under way.
        assert torch.load(last, weights_only=True)["global_step"] >= kill_after - 2
    subprocess.run([*script, str(last)], check=True, env=environment, stdout=subprocess.DEVNULL)

    assert_same(state(last), state(straight / "checkpoints" / "last.ckpt"))
    assert sorted(path.name for path in last.parent.glob("[!.]*")) == ["best.ckpt", "last.ckpt"]


CONFIG = {"arch": {"sizes": [8, 8], "lr": 1e-4}, "trainer": {"max_steps": 8}, "resume": "auto"}


def make_run(folder: Path, config: dict[str, Any], straight: Path, age_s: float) -> Path:
    write_run_file(folder, config)
    (folder / "checkpoints").mkdir()
    checkpoint = folder / "checkpoints" / "last.ckpt"
    shutil.copyfile(straight / "checkpoints" / "last.ckpt", checkpoint)
    os.utime(checkpoint, (1e9 - age_s, 1e9 - age_s))
    return folder


def test_newest_run_of_the_same_config_is_found(straight: Path, tmp_path: Path) -> None:
    other = {**CONFIG, "arch": {"sizes": [8, 16], "lr": 1e-4}}
    longer = {**CONFIG, "trainer": {"max_steps": 99}, "resume": None}
    make_run(tmp_path / "old", CONFIG, straight, age_s=30)
    newest = make_run(tmp_path / "deep" / "newer", longer, straight, age_s=20)
    make_run(tmp_path / "other", other, straight, age_s=10)
    write_run_file(tmp_path / "without checkpoint", CONFIG)
    assert find_resumable_run(tmp_path, CONFIG) == newest
    assert find_resumable_run(tmp_path / "missing", CONFIG) is None
    assert find_resumable_run(tmp_path, {**CONFIG, "seed": 3}) is None


def test_a_run_that_was_killed_before_it_had_a_last_checkpoint_is_found(
    straight: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", CONFIG, straight, age_s=30)
    best = run / "checkpoints" / "best.ckpt"
    (run / "checkpoints" / "last.ckpt").rename(best)
    assert find_resumable_run(tmp_path, CONFIG) == run
    assert checkpoint_to_resume(run) == best


def test_damaged_checkpoint_of_the_newest_run_is_an_error(straight: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "old", CONFIG, straight, age_s=30)
    newest = make_run(tmp_path / "new", CONFIG, straight, age_s=20)
    checkpoint = newest / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    os.utime(checkpoint, (1e9, 1e9))
    with pytest.raises(UserError, match="cut short"):
        find_resumable_run(tmp_path, CONFIG)


def test_checkpoint_to_resume(straight: Path, tmp_path: Path) -> None:
    last = straight / "checkpoints" / "last.ckpt"
    assert checkpoint_to_resume(straight) == last
    assert checkpoint_to_resume(last) == last
    with pytest.raises(UserError, match="neither a checkpoint"):
        checkpoint_to_resume(tmp_path)
