"""An offline run on wandb, read back: metrics, media, the table of samples, checkpoints."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from lightning.pytorch import Trainer

from svc.errors import UserError
from svc.training.callbacks.alarms import TrainingAlarms
from svc.training.callbacks.samples import ValidationSamples
from svc.training.file_loggers import RunCsvLogger, RunTensorBoardLogger
from svc.training.loggers import wandb_logger
from svc.training.runs import fit
from svc.training.wandb_record import read_records
from training.tiny_training import SPEC, TinyData, tiny_module, tiny_trainer

pytestmark = pytest.mark.slow

SOUNDS = [f"sample/{number}/{kind}" for number in (0, 1) for kind in ("target", "prediction")]
PICTURES = ["sample/0/mel", "sample/1/mel"]
CONFIG = {"seed": 1, "provenance": {"git_revision": "0" * 40, "git_dirty": True}}


def records(run: Path) -> list[Any]:
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    return list(read_records(file))


def history(run: Path) -> list[dict[str, Any]]:
    """The lines of a run, by the names that metrics were logged under."""
    rows = [record.history.item for record in records(run) if record.HasField("history")]
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row}
        for row in rows
    ]


def artifacts(run: Path) -> list[Any]:
    return [record.artifact for record in records(run) if record.HasField("artifact")]


def tables(run: Path) -> list[dict[str, Any]]:
    """What was uploaded of the table of samples, in order."""
    made = []
    for artifact in artifacts(run):
        if artifact.type == "model":
            continue
        files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
        assert all(file.is_file() for file in files.values())
        (table,) = (name for name in files if name.endswith("samples.table.json"))
        made.append({**json.loads(files[table].read_text(encoding="utf-8")), "files": files})
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps and two validations before all three loggers."""
    folder = tmp_path_factory.mktemp("run")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_MODE", "WANDB_DATA_DIR"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(folder / "home"))
        loggers = [
            wandb_logger("svc", str(folder), offline=True, checkpoints=True),
            RunCsvLogger(folder, name="metrics", flush_logs_every_n_steps=1),
            RunTensorBoardLogger(folder, name="tensorboard", version=""),
        ]
        callbacks = [ValidationSamples(folder / "samples", SPEC, count=2), TrainingAlarms()]
        trainer = tiny_trainer(folder, 6, callbacks, loggers=loggers)
        for logger in loggers:
            logger.log_hyperparams(CONFIG)
        fit(trainer, tiny_module(), TinyData())
        assert "WANDB_DATA_DIR" not in os.environ
    return folder


def test_all_loggers_show_the_same_names(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with (run / "metrics" / "version_0" / "metrics.csv").open(newline="") as file:
        of_csv = set(csv.DictReader(file).fieldnames or ()) - {"step"}
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    of_tensorboard = set(board.Tags()["scalars"]) - {"hp_metric"}
    of_wandb = {
        name
        for row in history(run)
        for name in row
        if not name.startswith(("_", "sample/", "samples/", "trainer/"))
    }
    assert of_csv == of_tensorboard == of_wandb
    assert {"train_loss_gen/mel", "grad_norm/discriminator", "perf/steps_per_s"} <= of_csv


def test_metrics_lie_at_generator_updates(run: Path) -> None:
    with (run / "metrics" / "version_0" / "metrics.csv").open(newline="") as file:
        rows = [(row["step"], row["valid_loss"]) for row in csv.DictReader(file)]
    of_csv = {int(step): float(loss) for step, loss in rows if loss}
    lines = [row for row in history(run) if "valid_loss" in row]
    assert {row["trainer/global_step"]: row["valid_loss"] for row in lines} == of_csv
    assert sorted(of_csv) == [3, 6]


def test_the_configuration_is_there(run: Path) -> None:
    updates = [
        update
        for record in records(run)
        if record.HasField("config")
        for update in record.config.update
    ]
    found = {update.key: json.loads(update.value_json) for update in updates}
    assert {key: found[key] for key in CONFIG} == CONFIG


def test_sounds_and_pictures_are_those_of_the_run_folder(run: Path) -> None:
    (files,) = run.glob("wandb/offline-run-*/files")
    rows = [row for row in history(run) if "samples/path" in row]
    assert [row["trainer/global_step"] for row in rows] == [3, 6]
    for row in rows:
        folder = run / "samples" / f"step_{row['trainer/global_step']:06d}"
        for name in SOUNDS:
            if name.endswith("target") and row["trainer/global_step"] > 3:
                assert f"{name}/audio" not in row  # the recording is still the same
                continue
            (sound,) = row[f"{name}/audio"]
            _, number, kind = name.split("/")
            same = folder / f"{number}_{kind}.wav"
            assert (files / sound["path"]).read_bytes() == same.read_bytes()
        for name in PICTURES:
            (picture,) = row[f"{name}/filenames"]
            same = folder / f"{name.split('/')[1]}_mel.png"
            assert (files / picture).read_bytes() == same.read_bytes()


def test_each_validation_adds_its_rows_to_one_table(run: Path) -> None:
    first, second = tables(run)
    for step, table in ((3, first), (6, second)):
        assert table["columns"] == ["step", "sample", "speaker", "target", "prediction", "mel"]
        assert [row[:3] for row in table["data"]] == [[step, "0", "ada"], [step, "1", "ben"]]
        for number, row in enumerate(table["data"]):
            for cell, kind in zip(
                row[3:], ("target.wav", "prediction.wav", "mel.png"), strict=True
            ):
                same = run / "samples" / f"step_{step:06d}" / f"{number}_{kind}"
                assert table["files"][cell["path"]].read_bytes() == same.read_bytes()
    assert second["log_mode"] == "INCREMENTAL"
    assert second["increment_num"] == 1
    assert len(second["previous_increments_paths"]) == 1
    # Of the second upload, the recordings are the same files under the same names.
    assert len(first["files"].keys() & second["files"].keys()) == 2
    assert not list((run / "home").rglob("staging"))  # where wandb itself would keep them


def test_the_best_and_the_last_checkpoint_are_one_version_where_they_are_one(run: Path) -> None:
    (model,) = (artifact for artifact in artifacts(run) if artifact.type == "model")
    (entry,) = model.manifest.contents
    assert set(model.aliases) >= {"best", "last"}
    best = (run / "checkpoints" / "best.ckpt").read_bytes()
    assert best == (run / "checkpoints" / "last.ckpt").read_bytes()
    assert Path(entry.local_path).read_bytes() == best


def test_a_run_apart_from_whatever_else_is_logged(tmp_path: Path, monkeypatch: Any) -> None:
    """A job that failed before it began to train, say, leaves its run open."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    left, mine = (
        wandb_logger("svc", str(tmp_path / name), offline=True) for name in ("left", "mine")
    )
    left.log_hyperparams({"job": 0})
    trainer = Trainer(logger=mine, accelerator="cpu")
    trainer.logger.log_metrics({"valid_loss": 0.25}, step=1)  # type: ignore[union-attr]
    mine.finalize("success")
    left.finalize("failed")
    assert [row["valid_loss"] for row in history(tmp_path / "mine")] == [0.25]
    assert history(tmp_path / "left") == []


@pytest.mark.parametrize("offline", ["auto", False])
def test_where_wandb_cannot_be_reached(
    offline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run is kept offline, unless it must not be."""
    original = wandb.init

    def unreachable(**settings: Any) -> Any:
        if settings["mode"] == "offline":
            return original(**settings)
        raise wandb.CommError("no such host\nand more of it")

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb, "init", unreachable)
    logger = wandb_logger("svc", str(tmp_path), offline=offline)
    if offline is False:
        with pytest.raises(UserError, match=r"cannot be reached \(no such host\).*offline=true"):
            logger.log_metrics({"valid_loss": 0.5}, step=1)
        return
    logger.log_metrics({"valid_loss": 0.5}, step=1)
    logger.finalize("success")
    assert [row["valid_loss"] for row in history(tmp_path)] == [0.5]
    assert "it cannot be reached (no such host), so the run is kept offline" in caplog.text
    assert not any(artifact.type == "model" for artifact in artifacts(tmp_path))
