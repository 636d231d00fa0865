"""SIGTERM saves and ends; twenty kills at random moments and disks that are full change nothing."""

import multiprocessing
import os
import random
import resource
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from svc.errors import EndedOnRequest, UserError
from svc.training.runs import fit
from training.test_resume import assert_same, state
from training.tiny_training import TinyData, tiny_module, tiny_trainer

STEPS = 200
KILLS = 20


class Announce(Callback):
    """Tells every step that was taken, and every validation that has begun."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.connection.send(trainer.global_step)

    def on_validation_batch_start(self, *_: Any) -> None:
        self.connection.send("validation")


def train(run_dir: Path, steps: int, connection: Connection) -> None:
    """In a process of its own: continue a run."""
    torch.set_num_threads(1)
    last = run_dir / "checkpoints" / "last.ckpt"
    trainer = tiny_trainer(run_dir, steps, [Announce(connection)], validate_every_steps=7)
    try:
        fit(trainer, tiny_module(), TinyData(), last if last.is_file() else None)
    except EndedOnRequest:
        sys.exit(143)


class Processes:
    """Starts processes that have imported everything already."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["training.test_kills"])
        self.started: list[ForkServerProcess] = []

    def begin(self, run_dir: Path, steps: int = STEPS) -> tuple[ForkServerProcess, Connection]:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=train, args=(run_dir, steps, theirs))
        process.start()
        theirs.close()
        self.started.append(process)
        return process, ours


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    # Where their common parent finds this module: it is not told sys.path, and says nothing where
    # it cannot import what it should.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    them = Processes()
    yield them
    for process in them.started:
        process.kill()
        process.join()


def heard(connection: Connection, wanted: Any = None) -> Any:
    """The next thing that a process tells, or the next `wanted`; None where it has ended."""
    try:
        while (word := connection.recv()) != wanted and wanted is not None:
            pass
    except EOFError:
        return None
    return word


@pytest.mark.slow
def test_twenty_kills_at_random_moments(processes: Processes, tmp_path: Path) -> None:
    whole = processes.begin(tmp_path / "whole")
    moments = random.Random(3)
    run_dir = tmp_path / "killed"
    last = run_dir / "checkpoints" / "last.ckpt"
    kills = ended = 0
    while kills < KILLS:
        process, connection = processes.begin(run_dir)
        # Now and then before it has taken a step, else soon after one of the first.
        told = None
        for _ in range(moments.randrange(5)):
            word = heard(connection)
            told = word if word != "validation" else told
        process.join(timeout=moments.uniform(0.0, 0.05))
        number = moments.choice([signal.SIGKILL, signal.SIGTERM])
        if not process.is_alive():
            break
        os.kill(process.pid or 0, number)
        process.join(timeout=30)
        assert not process.is_alive()
        kills += 1
        if number == signal.SIGTERM and told is not None and process.exitcode == 143:
            ended += 1
            while (step := heard(connection)) is not None:
                told = step if step != "validation" else told
            assert torch.load(last, weights_only=True)["global_step"] == told
    assert kills == KILLS
    assert ended > 3

    for process, connection in (processes.begin(run_dir), whole):
        assert heard(connection, "the end") is None
        process.join(timeout=240)
        assert process.exitcode == 0
    assert_same(state(last), state(tmp_path / "whole" / "checkpoints" / "last.ckpt"))
    assert [p.name for p in last.parent.iterdir() if p.name.startswith(".")] == []


def test_sigterm_during_a_validation_saves_at_once(processes: Processes, tmp_path: Path) -> None:
    for steps in (5, 10):  # an epoch is shorter than seven steps
        process, connection = processes.begin(tmp_path, 16)
        assert heard(connection, "validation") == "validation"
        os.kill(process.pid or 0, signal.SIGTERM)
        process.join(timeout=30)
        # Unless the signal came after the last batch of the validation.
        assert process.exitcode == 143
        last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["global_step"] in (steps, steps + 1)
        assert last["svc"]["progress"]["batches_seen"] == last["global_step"]
    process, _ = processes.begin(tmp_path, 16)
    process.join(timeout=60)
    assert process.exitcode == 0


def limited(run_dir: Path, connection: Connection) -> None:
    """A run whose disk is full between two steps: no file may grow beyond a few bytes."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    room = resource.getrlimit(resource.RLIMIT_FSIZE)

    class FullDisk(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            full = 3 <= trainer.global_step < connection_until
            limit = (1 << 16, room[1]) if full else room
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    connection_until = connection.recv()
    trainer = tiny_trainer(run_dir, 8, [FullDisk()], validate_every_steps=3)
    try:
        fit(trainer, tiny_module(), TinyData())
    except UserError as error:
        connection.send(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, room)


@pytest.mark.parametrize(("room_from", "last_step"), [(7, 8), (99, 3)])
def test_a_full_disk_stops_no_training(
    processes: Processes, tmp_path: Path, room_from: int, last_step: int
) -> None:
    ours, theirs = processes.context.Pipe()
    process = processes.context.Process(target=limited, args=(tmp_path, theirs))
    process.start()
    theirs.close()
    processes.started.append(process)
    ours.send(room_from)
    fault = heard(ours)
    process.join(timeout=60)
    assert process.exitcode == 0
    # Whole, and as it was when the disk was full.
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == last_step
    assert list((tmp_path / "checkpoints").glob(".*")) == []
    assert (fault is None) == (last_step == 8)
    if fault is not None:
        assert "done after 8 steps, but its checkpoint could not be written" in fault


def test_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, calls = torch.save, []

    def sometimes(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) in (2, 3):
            raise OSError(28, "No space left on device")
        real(*arguments, **options)

    monkeypatch.setattr(torch, "save", sometimes)
    trainer = tiny_trainer(tmp_path, 8, save_every_steps=1, validate_every_steps=99)
    fit(trainer, tiny_module(), TinyData())
    said = [r.getMessage() for r in caplog.records if "could not be written" in r.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("Step 2: ")
    assert "No space left on device" in said[0]
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8


def test_what_is_not_the_disks_fault_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        fit(tiny_trainer(tmp_path, 4), tiny_module(), TinyData())
