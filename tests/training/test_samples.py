"""Samples and metrics where a disk is full, and whose voice a sample is."""

from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from svc.evaluation.plots import read_curves
from svc.training.callbacks.samples import ValidationSamples, _speaker_name
from svc.training.file_loggers import RunCsvLogger, RunTensorBoardLogger
from svc.training.runs import fit
from training.tiny_training import SPEC, TinyData, tiny_module, tiny_trainer

FULL = OSError(28, "No space left on device")


class Spoilt(ValidationSamples):
    """Cannot write any more."""

    def _write(self, *arguments: Any, **options: Any) -> Any:
        raise FULL


class FullDisk(Callback):
    """What loggers write is refused after updates 2 to 5."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        for writer, method in ((_ExperimentWriter, "save"), (RecordWriter, "write")):
            monkeypatch.setattr(writer, method, self._refusing(getattr(writer, method)))

    def _refusing(self, original: Any) -> Any:
        def write(*arguments: Any) -> Any:
            if self.full:
                raise FULL
            return original(*arguments)

        return write

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.full = 1 <= trainer.global_step < 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loggers = [
        RunCsvLogger(tmp_path, name="", version="", flush_logs_every_n_steps=1),
        RunTensorBoardLogger(tmp_path, name="", version="board"),
    ]
    callbacks = [Spoilt(tmp_path / "samples", SPEC), FullDisk(monkeypatch)]
    trainer = tiny_trainer(tmp_path, 8, callbacks, validate_every_steps=4, loggers=loggers)
    fit(trainer, tiny_module(), TinyData())
    assert trainer.global_step == 8
    for refused in ("metrics.csv could not be", "TensorBoard's file could not be", "no samples"):
        assert refused in caplog.text
    assert "[Errno 28] No space left on device" in caplog.text
    assert caplog.text.count("no samples are written") == 2  # once at each validation
    losses = read_curves(tmp_path / "metrics.csv")["train_loss_gen"]
    assert caplog.text.count("metrics.csv could not be") == 1  # until there is room again
    assert losses[0] == [2, 4, 6, 8]  # what was refused is written later
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    later = [event.step for event in board.Scalars("train_loss_gen")]
    assert later[-2:] == [6, 8]


class NoName(LightningModule):
    """Without facts."""


def test_a_module_without_facts_has_numbers_for_names() -> None:
    assert _speaker_name(NoName(), 3) == "3"
    assert _speaker_name(tiny_module(), 1) == "ben"
