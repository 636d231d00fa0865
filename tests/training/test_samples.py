"""Samples and metrics where a disk is full, and whose voice a sample is."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import CSVLogger

from svc.training.callbacks.samples import ValidationSamples, _speaker_name
from svc.training.runs import fit
from training.tiny_training import SPEC, TinyData, tiny_module, tiny_trainer


class Spoilt(ValidationSamples):
    """Cannot write any more, as on a full disk."""

    def _write(self, *arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")


def test_a_full_disk_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = CSVLogger(tmp_path, name="metrics", flush_logs_every_n_steps=1)

    def save(self: CSVLogger) -> None:
        if trainer.global_step > 0:
            raise OSError(28, "No space left on device")

    trainer = tiny_trainer(tmp_path, 4, [Spoilt(tmp_path / "samples", SPEC)], loggers=[logger])
    monkeypatch.setattr(CSVLogger, "save", save)
    monkeypatch.setattr(CSVLogger, "finalize", lambda self, status: None)
    fit(trainer, tiny_module(), TinyData())
    assert trainer.global_step == 4
    assert "metrics could not be written ([Errno 28] No space left on device)" in caplog.text
    assert "no samples are written ([Errno 28] No space left on device)" in caplog.text
    assert caplog.text.count("no samples are written") == 2  # once at each validation


class NoName(LightningModule):
    """Without facts."""


def test_a_module_without_facts_has_numbers_for_names() -> None:
    assert _speaker_name(NoName(), 3) == "3"
    assert _speaker_name(tiny_module(), 1) == "ben"
