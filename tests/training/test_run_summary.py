"""What a run came to, as it is written down."""

import math
from pathlib import Path

import pytest
import torch

from svc.memory import peak_memory_gib, restart_peak_memory
from svc.training.run_summary import (
    RunSummary,
    keep_summary,
    read_summary,
    summarise,
    write_summary,
)
from training.tiny_training import TinyData, tiny_module, tiny_trainer


def test_the_summary_of_a_run_is_that_of_its_last_validation(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, 5, validate_every_steps=3)
    trainer.fit(tiny_module(), datamodule=TinyData())
    summary = summarise(trainer, 2.5)
    assert summary.score == float(trainer.callback_metrics["valid_loss"])
    assert set(summary.metrics) >= {"valid_loss", "valid_loss/bottleneck"}
    assert all(name.startswith("valid") for name in summary.metrics)
    assert (summary.steps, summary.wall_s, summary.pruned) == (5, 2.5, False)
    assert summary.steps_per_s is not None
    assert 0 < summary.steps_per_s < 1000
    assert 0.05 < summary.peak_memory_gib < 100
    write_summary(tmp_path, summary)
    assert read_summary(tmp_path) == summary


def test_a_loss_that_is_not_finite_is_no_score(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, 1)
    trainer.fit(tiny_module(), datamodule=TinyData())
    for value in (math.nan, math.inf):
        trainer.callback_metrics["valid_loss"] = torch.tensor(value)
        assert summarise(trainer, 1.0).score is None
    write_summary(tmp_path, summarise(trainer, 1.0))
    assert read_summary(tmp_path) == summarise(trainer, 1.0)
    assert summarise(trainer, 1.0).steps_per_s is None  # a single step, which is not counted


def test_a_run_that_is_done_keeps_its_summary(tmp_path: Path) -> None:
    """Where it is started again and there is nothing left to do."""
    found = RunSummary({"valid_loss": 0.5}, 5, 1.5, 0.1, 2.0)
    assert keep_summary(tmp_path, found) == found
    assert keep_summary(tmp_path, RunSummary({}, 5, None, 0.1, 0.3)) == found
    assert read_summary(tmp_path) == found
    longer = RunSummary({}, 6, None, 0.1, 0.3)
    assert keep_summary(tmp_path, longer) == longer
    assert read_summary(tmp_path) == longer


def test_a_summary_that_cannot_be_written_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = RunSummary({"valid_loss": 0.5}, 5, 1.5, 0.1, 2.0)
    assert keep_summary(tmp_path / "gone", found) == found
    assert "summary.json could not be written" in caplog.text


def test_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    assert read_summary(tmp_path) is None
    for content in ("", "[]", '{"metrics": {}}'):
        (tmp_path / "summary.json").write_text(content)
        assert read_summary(tmp_path) is None
    assert RunSummary({}, 1, None, 0.0, 0.0).score is None


def test_the_peak_of_memory_is_that_since_it_was_restarted() -> None:
    restart_peak_memory()
    before = peak_memory_gib()
    block = torch.ones(64 * 2**20)  # 256 MiB
    raised = peak_memory_gib()
    assert raised > before + 0.2
    del block
    assert peak_memory_gib() >= raised - 0.01  # it is a peak
