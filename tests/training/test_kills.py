"""SIGTERM saves and ends; twenty kills at random moments and disks that are full change nothing."""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from svc.errors import EndedOnRequest, UserError
from svc.training.callbacks.checkpoints import LastAndBestCheckpoints
from svc.training.runs import fit
from svc.training.trainer import build_trainer
from training.test_callbacks import FakeScores, NoValidation
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


@pytest.mark.slow
def test_sigterm_during_a_validation_saves_at_once(processes: Processes, tmp_path: Path) -> None:
    for _ in range(2):  # the second time in the validation that makes up for the first
        process, connection = processes.begin(tmp_path, 16)
        assert heard(connection, "validation") == "validation"
        os.kill(process.pid or 0, signal.SIGTERM)
        process.join(timeout=30)
        assert process.exitcode == 143
        last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
        # An epoch is shorter than seven steps. It may have come after the last batch of it.
        assert last["global_step"] in (5, 6, 10, 11)
        assert last["svc"]["progress"]["batches_seen"] == last["global_step"]
    process, _ = processes.begin(tmp_path, 16)
    process.join(timeout=60)
    assert process.exitcode == 0


class Asked(Callback):
    """A signal in the validation of one step, or during that step."""

    def __init__(self, number: int, step: int, before: bool) -> None:
        self.number, self.step, self.before = number, step, before
        self.validated: list[tuple[int, float]] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if self.before and trainer.global_step == self.step - 1:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if not self.before and trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.validated.append((trainer.global_step, float(trainer.callback_metrics["valid_loss"])))


def validated(
    run_dir: Path, asked: Asked, every: int, resume_from: Path | None = None
) -> list[tuple[int, float]]:
    """Steps and losses of the validations of ten updates in epochs of five."""
    trainer = tiny_trainer(run_dir, 10, [asked], validate_every_steps=every)
    fit(trainer, tiny_module(), TinyData(), resume_from)
    return asked.validated


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "every", "step", "before"),
    [
        (signal.SIGTERM, 4, 4, True),
        (signal.SIGTERM, 4, 4, False),
        (signal.SIGTERM, 5, 5, True),
        (signal.SIGTERM, 5, 5, False),
        (signal.SIGTERM, 4, 10, False),
        (signal.SIGINT, 4, 10, True),
        (signal.SIGINT, 4, 8, False),
    ],
)
def test_a_validation_that_was_cut_short_is_made_up_for(
    tmp_path: Path, number: signal.Signals, every: int, step: int, before: bool
) -> None:
    """In the middle of an epoch, at its end, and when all steps are taken."""
    whole = validated(tmp_path / "whole", Asked(number, 99, before), every)
    assert [at for at, _ in whole] == ([4, 8, 10] if every == 4 else [5, 10])
    folder, asked = tmp_path / "checkpoints", Asked(number, step, before)
    with pytest.raises(EndedOnRequest if number == signal.SIGTERM else KeyboardInterrupt):
        validated(tmp_path, asked, every)
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == step
    made_up = validated(tmp_path, Asked(number, 99, before), every, folder / "last.ckpt")
    assert [at for at, _ in made_up] == [at for at, _ in whole if at >= step]
    assert asked.validated + made_up == whole
    for name in ("last.ckpt", "best.ckpt"):
        assert_same(state(folder / name), state(tmp_path / "whole" / "checkpoints" / name))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_before_the_first_step_saves_that(tmp_path: Path) -> None:
    class Early(TinyData):
        def train_dataloader(self) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)  # as while a dataset is read into memory
            return super().train_dataloader()

    with pytest.raises(EndedOnRequest, match="after 1 steps"):
        fit(tiny_trainer(tmp_path, 8), tiny_module(accumulate_batches=2), Early())
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["svc"]["progress"]["batches_seen"] == 2


def test_a_second_interrupt_does_not_wait(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reached: list[str] = []

    class Impatient(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                os.kill(os.getpid(), signal.SIGINT)
                reached.append("first")
                os.kill(os.getpid(), signal.SIGINT)
                reached.append("second")

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_trainer(tmp_path, 8, [Impatient()]), tiny_module(), TinyData())
    assert reached == ["first"]
    assert capfd.readouterr().err.count("Ctrl-C: saving after the update under way") == 1
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3


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


@pytest.mark.slow
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
        assert "is the disk full?" in fault


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


def test_a_folder_that_cannot_be_written_stops_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoints"
    (folder / ".last.ckpt.unfinished").mkdir(parents=True)  # whoever tests is root, as may be

    class Mend(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 5:
                (folder / ".last.ckpt.unfinished").rmdir()

    trainer = tiny_trainer(tmp_path, 8, [Mend()], validate_every_steps=99, save_every_steps=2)
    fit(trainer, tiny_module(), NoValidation())
    said = [r.getMessage() for r in caplog.records if "could not be written" in r.getMessage()]
    assert [line.partition(":")[0] for line in said] == ["Step 2", "Step 4"]
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 8


@pytest.mark.parametrize("mended_at", [4, 99])
def test_a_disk_that_fills_up_between_best_and_last_stops_no_training(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mended_at: int,
) -> None:
    """Where the file system has no links, the last checkpoint is a copy of the best."""
    real, folder = shutil.copyfile, tmp_path / "checkpoints"
    trainer = build_trainer(
        run_dir=tmp_path,
        accelerator="cpu",
        max_steps=4,
        validate_every_steps=2,
        callbacks=[FakeScores([3.0, 1.0]), LastAndBestCheckpoints(folder, monitor="fake_loss")],
    )

    def no_links(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    def copy(source: Path, destination: Path) -> None:
        if trainer.global_step < mended_at:
            destination.write_bytes(b"the first bytes")
            raise OSError(28, "No space left on device")
        real(source, destination)

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises(UserError, match="4 steps, but") if mended_at == 99 else nullcontext():
        fit(trainer, tiny_module(), TinyData())
    said = [r.getMessage() for r in caplog.records if "could not be written" in r.getMessage()]
    assert said[0].startswith(f"Step 2: the checkpoint {folder / 'last.ckpt'} could not be")
    assert len(said) == 1 + (mended_at == 99)
    names = ["best.ckpt"] if mended_at == 99 else ["best.ckpt", "last.ckpt"]
    assert sorted(os.listdir(folder)) == names
    for name in names:
        assert torch.load(folder / name, weights_only=True)["global_step"] == 4


def test_what_is_not_the_disks_fault_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        fit(tiny_trainer(tmp_path, 4), tiny_module(), TinyData())
