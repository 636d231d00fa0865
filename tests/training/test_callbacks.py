import io
import os
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from svc.checkpoints.training_checkpoint import load_trained_state
from svc.training.callbacks.progress import TrainingProgressBar, duration_text
from svc.training.callbacks.samples import ValidationSamples
from svc.training.file_loggers import RunTensorBoardLogger
from svc.training.runs import fit
from svc.training.trainer import build_trainer
from training.tiny_training import FACTS, SPEC, TinyData, tiny_module, tiny_trainer


class NoValidation(TinyData):
    """A dataset too small to hold anything out."""

    def val_dataloader(self) -> list[Any]:
        return []


class FakeScores(Callback):
    """Replaces valid_loss, to say which validation is the best."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("fake_loss", self.scores.pop(0), logger=False)


def saved_step(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def test_last_and_best_are_kept_and_nothing_else(tmp_path: Path) -> None:
    from svc.training.callbacks.checkpoints import LastAndBestCheckpoints

    folder = tmp_path / "checkpoints"
    trainer = build_trainer(
        run_dir=tmp_path,
        accelerator="cpu",
        max_steps=8,
        validate_every_steps=2,
        callbacks=[
            FakeScores([3.0, 1.0, float("nan"), 2.0]),
            LastAndBestCheckpoints(folder, monitor="fake_loss"),
        ],
    )
    fit(trainer, tiny_module(), TinyData())
    assert sorted(os.listdir(folder)) == ["best.ckpt", "last.ckpt"]
    assert saved_step(folder / "best.ckpt") == 4
    assert saved_step(folder / "last.ckpt") == 8
    facts, weights = load_trained_state(folder / "best.ckpt")
    assert facts == FACTS
    tiny_module().generator.load_state_dict(weights)


def test_a_metric_that_is_not_measured_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from svc.training.callbacks.checkpoints import LastAndBestCheckpoints

    callbacks = [LastAndBestCheckpoints(tmp_path / "checkpoints", monitor="valid_los")]
    trainer = build_trainer(
        run_dir=tmp_path,
        accelerator="cpu",
        max_steps=4,
        validate_every_steps=2,
        callbacks=callbacks,
    )
    fit(trainer, tiny_module(), TinyData())
    (said,) = [message for message in caplog.messages if "monitor" in message]
    assert "callbacks.checkpoints.monitor=valid_los is not measured" in said
    assert "there is valid_loss" in said
    assert os.listdir(tmp_path / "checkpoints") == ["last.ckpt"]


def test_runs_without_validation_are_saved_as_well(tmp_path: Path) -> None:
    fit(tiny_trainer(tmp_path, 3, save_every_steps=2), tiny_module(), NoValidation())
    assert os.listdir(tmp_path / "checkpoints") == ["last.ckpt"]
    assert saved_step(tmp_path / "checkpoints" / "last.ckpt") == 3


def test_validation_comes_each_epoch_where_that_is_shorter(tmp_path: Path) -> None:
    steps: list[int] = []

    class Note(Callback):
        def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
            steps.append(trainer.global_step)

    fit(tiny_trainer(tmp_path, 7, [Note()], validate_every_steps=1000), tiny_module(), TinyData())
    assert steps == [5, 7]  # an epoch has 5 batches


def test_samples_go_to_the_run_folder_and_the_logger(tmp_path: Path) -> None:
    logger = RunTensorBoardLogger(tmp_path, name="", version="board")
    samples = ValidationSamples(tmp_path / "samples", SPEC, count=3)
    trainer = tiny_trainer(tmp_path, 2, [samples], loggers=[logger])
    fit(trainer, tiny_module(), TinyData())

    files = sorted(path.name for path in (tmp_path / "samples" / "step_000002").iterdir())
    kinds = ("mel.png", "prediction.wav", "target.wav")
    assert files == [f"{number}_{kind}" for number in range(3) for kind in kinds]
    info = soundfile.info(tmp_path / "samples" / "step_000002" / "2_prediction.wav")
    assert (info.samplerate, info.frames) == (44_100, 8 * 512)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "board"), size_guidance={"audio": 0, "images": 0})
    board.Reload()
    tags = board.Tags()
    assert set(tags["audio"]) == {
        f"sample/{number}/{kind}" for number in range(3) for kind in ("target", "prediction")
    }
    assert set(tags["images"]) == {f"sample/{number}/mel" for number in range(3)}
    assert "valid_loss" in tags["scalars"]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_counts_generator_updates(tmp_path: Path, terminal: bool) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=200)
    bar = TrainingProgressBar(line_every_s=0.0, console=console)
    fit(tiny_trainer(tmp_path, 4, [bar]), tiny_module(), TinyData())
    text = output.getvalue()
    assert "4/4" in text
    assert "steps/s" in text
    assert "gen " in text
    assert "valid " in text
    assert ("step 2/4" in text) != terminal
    assert " left" in text


def test_quiet_progress_writes_seldom(tmp_path: Path) -> None:
    output = io.StringIO()
    bar = TrainingProgressBar(line_every_s=3600.0, console=Console(file=output, width=200))
    fit(tiny_trainer(tmp_path, 4, [bar]), tiny_module(), TinyData())
    assert len(output.getvalue().splitlines()) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s"), (89.4, "89 s"), (600, "10 min"), (3900, "1 h 05 min"), (187_200, "2 d 4 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("each_epoch", "validated"), [(True, [5, 10]), (False, [6, 10])])
def test_short_epochs_need_not_be_validated(
    tmp_path: Path, each_epoch: bool, validated: list[int]
) -> None:
    """Ten updates in epochs of five, validating every six."""
    seen: list[int] = []

    class Note(Callback):
        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append(trainer.global_step)

    trainer = build_trainer(
        run_dir=tmp_path,
        accelerator="cpu",
        max_steps=10,
        validate_every_steps=6,
        validate_each_epoch=each_epoch,
        callbacks=[Note()],
    )
    fit(trainer, tiny_module(), TinyData())
    assert seen == validated
