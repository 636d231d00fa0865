"""Logging to wandb never asks for anything, and loses nothing where there is no key."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from svc.errors import UserError
from svc.training import wandb_end
from svc.training.loggers import has_wandb_key, wandb_logger
from svc.training.wandb_record import read_records

SETTINGS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "WANDB_MODE", "NETRC")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a key."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return folder


def test_a_key_is_found_where_wandb_finds_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_wandb_key()
    (home / ".netrc").write_text("machine example.org login user password x\n")
    assert not has_wandb_key()
    (home / ".netrc").write_text("machine api.wandb.ai login user password x\n")
    assert has_wandb_key()
    monkeypatch.setenv("NETRC", str(home / "elsewhere"))
    assert not has_wandb_key()
    (home / "elsewhere").write_text("machine wb.example.org login user password x\n")
    assert not has_wandb_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wb.example.org/")
    assert has_wandb_key()
    monkeypatch.delenv("NETRC")
    (home / ".netrc").write_text("this is not a netrc file\n")
    assert not has_wandb_key()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_wandb_key()


def mode(run_dir: Path, **settings: object) -> str | None:
    """How wandb will be told to run; the run itself is not started."""
    logger = wandb_logger("svc", str(run_dir), **settings)  # type: ignore[arg-type]
    chosen: str | None = logger._wandb_init["mode"]
    return chosen


def test_online_and_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mode(tmp_path) == "offline"
    assert mode(tmp_path, offline=True) == "offline"
    with pytest.raises(UserError, match=r"offline=false: there is no key.*WANDB_API_KEY"):
        wandb_logger("svc", str(tmp_path), offline=False)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode(tmp_path) is None  # then wandb does as WANDB_MODE says
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert mode(tmp_path) is None
    assert mode(tmp_path, offline=False) is None
    assert mode(tmp_path, offline=True) == "offline"


def test_the_end_of_a_run_takes_some_time(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"finish_timeout_s=0: seconds above 0"):
        wandb_logger("svc", str(tmp_path), offline=True, finish_timeout_s=0)


def test_a_continued_run_keeps_its_id(tmp_path: Path) -> None:
    first, again, other = (
        wandb_logger("svc", str(tmp_path / run)) for run in ("one", "one", "two")
    )
    assert first.version == again.version
    assert other.version != first.version
    assert first._wandb_init["name"] == "one"


OFFLINE_RUNS = """
from pathlib import Path
import numpy, soundfile, torch
from lightning.pytorch import Trainer
from matplotlib.image import imsave
from svc.training.loggers import wandb_logger
from svc.training.media_logging import log_samples
from svc.training.metric_logging import log_metrics
from svc.training.validation_sample import ValidationSample
sound, picture = Path("sound.wav").absolute(), Path("picture.png").absolute()
soundfile.write(sound, numpy.zeros(1000), 44100)
imsave(picture, numpy.zeros((9, 9)))
sample = ValidationSample(0, "a", torch.zeros(9), torch.zeros(9), sound, sound, picture)
for run in ("one", "two"):
    trainer = Trainer(logger=wandb_logger("svc", run), accelerator="cpu")
    log_metrics(trainer, {"valid_loss": 0.5}, step=3)
    log_samples(trainer, [sample], 44100, step=3)
    trainer.logger.finalize("success")
"""


def assert_whole(run: Path) -> None:
    """One offline run of OFFLINE_RUNS is below `run`, from its beginning to its end."""
    (folder,) = (run / "wandb").glob("offline-run-*")
    (file,) = folder.glob("*.wandb")
    records = list(read_records(file))
    rows = [record.history.item for record in records if record.HasField("history")]
    logged = {"/".join(item.nested_key): item.value_json for row in rows for item in row}
    assert logged["valid_loss"] == "0.5"
    assert logged["trainer/global_step"] == "3"
    assert records[-1].WhichOneof("record_type") in ("exit", "footer")
    assert len(list(folder.glob("files/media/audio/sample/0/*.wav"))) == 2
    assert len(list(folder.glob("files/media/images/sample/0/*.png"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("parent", ["no wandb", "a run under way", "a run that has ended"])
def test_without_a_key_runs_are_written_offline_and_apart(
    parent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the parent of the process has done with wandb; in another folder than its own."""
    if parent != "no wandb":
        run = wandb.init(mode="offline", dir=tmp_path)
        if parent == "a run that has ended":
            address = os.environ["WANDB_SERVICE"]
            run.finish()
            wandb.teardown()
            monkeypatch.setenv("WANDB_SERVICE", address)
        assert "WANDB_SERVICE" in os.environ
    child = tmp_path / "child"
    child.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE_RUNS],
        cwd=child,
        input="",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Create a W&B account" not in done.stdout + done.stderr
    for name in ("one", "two"):
        assert_whole(child / name)


@pytest.mark.slow
def test_a_run_is_where_it_was_asked_for_though_wandb_works_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        exec(OFFLINE_RUNS, {})
    for folder in ("first", "second"):
        for name in ("one", "two"):
            assert_whole(tmp_path / folder / name)


@pytest.mark.parametrize("files", ["none", "one that never ends"])
def test_a_run_that_does_not_reach_the_disk_is_told_of(
    files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(wandb_end, "_WRITING_S", 0.0 if files != "none" else 1e9)
    monkeypatch.setattr(wandb, "teardown", lambda: ended.append("wandb"))
    if files != "none":
        (tmp_path / "run-1.wandb").touch()
    wandb_end._wait_for_end(tmp_path)
    assert str(tmp_path) in caplog.text
    assert "disk" in caplog.text
    assert ended == ([] if files == "none" else ["wandb"])
