"""Runs as they arrive at a server: sent while they last, uploaded later, continued, cut off."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from lightning.pytorch import Callback, Trainer

from svc.training.callbacks.alarms import TrainingAlarms
from svc.training.callbacks.samples import ValidationSamples
from svc.training.file_loggers import RunCsvLogger
from svc.training.loggers import wandb_logger
from svc.training.runs import fit
from svc.training.wandb_record import read_records
from training.tiny_training import SPEC, TinyData, tiny_module, tiny_trainer
from wandb_served import ServedArtifact, ServedRun
from wandb_server import KEY, WandbServer

pytestmark = pytest.mark.slow

CONFIG = {"seed": 1, "provenance": {"git_revision": "0" * 40}}
SAMPLES_PER_VALIDATION = 2
LAST = Path("checkpoints") / "last.ckpt"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """To which wandb goes in this test, also in commands that it starts."""
    for name in ("WANDB_MODE", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    with WandbServer() as started:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("WANDB_BASE_URL", started.address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")  # seconds, where it does not answer
        wandb.teardown()  # it may have read other settings in this process
        yield started
        wandb.teardown()
        assert started.unknown == []


class AfterStep(Callback):
    """Does something after a generator update."""

    def __init__(self, step: int, what: Callable[[], None]) -> None:
        self.step, self.what = step, what

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.what()


def train(folder: Path, steps: int, *callbacks: Callback, **options: Any) -> None:
    """Go on to `steps`, from the last checkpoint where there is one; validate every 3 steps."""
    torch.set_num_threads(1)
    loggers = [
        wandb_logger("svc", str(folder), **options),
        RunCsvLogger(folder, name="metrics", flush_logs_every_n_steps=1),
    ]
    samples = ValidationSamples(folder / "samples", SPEC, count=SAMPLES_PER_VALIDATION)
    trainer = tiny_trainer(folder, steps, [samples, TrainingAlarms(), *callbacks], loggers=loggers)
    for logger in loggers:
        logger.log_hyperparams(CONFIG)
    last = folder / LAST
    fit(trainer, tiny_module(), TinyData(), last if last.is_file() else None)


def sync(*runs: Path, options: tuple[str, ...] = ()) -> None:
    """`wandb sync`, as a user types it."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *options, *map(str, sorted(runs))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """A nested dictionary as one with names such as a/b."""
    if not isinstance(value, dict):
        return {name: value}
    parts = [flat(part, f"{name}/{key}" if name else key) for key, part in value.items()]
    return {key: leaf for part in parts for key, leaf in part.items()}


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")}


def arrived(run: ServedRun) -> list[dict[str, Any]]:
    return [without_clock(flat(row)) for row in run.history]


def recorded(folder: Path) -> list[dict[str, Any]]:
    """The history that an offline run has on the disk."""
    (file,) = folder.glob("*.wandb")
    rows = [record.history.item for record in read_records(file) if record.HasField("history")]
    return [
        without_clock(
            {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
        )
        for items in rows
    ]


def in_csv(folder: Path) -> dict[str, dict[int, float]]:
    """Every metric of metrics.csv by step, over all continuations."""
    curves: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob("metrics/version_*/metrics.csv")):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                for name, value in row.items():
                    if value and name != "step":
                        curves.setdefault(name, {})[int(row["step"])] = float(value)
    return curves


def curves(run: ServedRun) -> dict[str, dict[int, float]]:
    """Every metric of a run on the server by generator updates."""
    found: dict[str, dict[int, float]] = {}
    for row in arrived(run):
        for name, value in row.items():
            if not name.startswith(("_", "sample/", "samples/", "trainer/")):
                found.setdefault(name, {})[row["trainer/global_step"]] = value
    return found


def rows_of_tables(server: WandbServer) -> list[list[Any]]:
    """(step, sample, speaker) of every row of the table `samples`."""
    rows: list[list[Any]] = []
    for version in server.backend.of_type("wandb-run-incremental-table"):
        (name,) = (name for name in version.files if name.endswith("samples.table.json"))
        table = json.loads(version.files[name])
        for row in table["data"]:
            assert all(cell["path"] in version.files for cell in row[3:])
            rows.append(row[:3])
    return rows


def rows_expected(*steps: int) -> list[list[Any]]:
    return [row for step in steps for row in ([step, "0", "ada"], [step, "1", "ben"])]


def require_samples(run: ServedRun, folder: Path, steps: tuple[int, ...]) -> None:
    """Every sound and picture of the run's folder is on the server, under its name and step."""
    rows = [row for row in arrived(run) if "samples/path" in row]
    assert [row["trainer/global_step"] for row in rows] == list(steps)
    for row in rows:
        files = folder / "samples" / f"step_{row['trainer/global_step']:06d}"
        for number in range(SAMPLES_PER_VALIDATION):
            (sound,) = row[f"sample/{number}/prediction/audio"]
            same = files / f"{number}_prediction.wav"
            assert run.files[sound["path"]] == same.read_bytes()
            (picture,) = row[f"sample/{number}/mel/filenames"]
            assert run.files[picture] == (files / f"{number}_mel.png").read_bytes()
        assert row["samples/path"] in run.files


def checkpoints(server: WandbServer) -> dict[tuple[str, ...], bytes]:
    """Content of every version of the artifact by its names, but for the one that wandb gives."""
    versions: list[ServedArtifact] = server.backend.of_type("model")
    assert all(version.committed for version in versions)
    return {
        tuple(sorted(set(version.aliases) - {"latest"})): version.files["model.ckpt"]
        for version in versions
    }


def only_run(server: WandbServer) -> ServedRun:
    (run,) = server.backend.runs.values()
    return run


def test_an_online_run_arrives_whole_and_goes_on_under_its_name(
    server: WandbServer, tmp_path: Path
) -> None:
    train(tmp_path, 6)
    run = only_run(server)
    assert (run.project, run.display_name, run.exit_codes) == ("svc", tmp_path.name, [0])
    assert {name: run.config[name] for name in CONFIG} == CONFIG
    assert curves(run) == in_csv(tmp_path)
    assert run.summary["valid_loss"] == curves(run)["valid_loss"][6]
    require_samples(run, tmp_path, (3, 6))
    assert rows_of_tables(server) == rows_expected(3, 6)
    best = (tmp_path / "checkpoints" / "best.ckpt").read_bytes()
    assert checkpoints(server) == {("best", "last"): best}

    train(tmp_path, 12)
    assert only_run(server) is run
    assert (run.begun, run.exit_codes) == (2, [0, 0])
    assert curves(run) == in_csv(tmp_path)
    assert [row["_step"] for row in arrived(run)] == list(range(len(run.history)))
    require_samples(run, tmp_path, (3, 6, 9, 12))
    assert rows_of_tables(server) == rows_expected(3, 6, 9, 12)
    assert server.backend.deleted, "the checkpoint of the first part is still there"
    kept = checkpoints(server)
    for name in ("best", "last"):
        (content,) = (content for names, content in kept.items() if name in names)
        assert content == (tmp_path / "checkpoints" / f"{name}.ckpt").read_bytes()
    assert all(kept), "a version without a name"


@pytest.mark.parametrize("continued", [False, True])
def test_an_offline_run_arrives_whole_when_it_is_uploaded(
    continued: bool, server: WandbServer, tmp_path: Path
) -> None:
    for steps in (6, 12) if continued else (6,):
        train(tmp_path, steps, offline=True, checkpoints=True)
    assert server.asked == []
    runs = sorted(tmp_path.glob("wandb/offline-run-*"))
    sync(*runs)
    run = only_run(server)
    assert (run.project, run.display_name) == ("svc", tmp_path.name)
    assert run.exit_codes == [0] * len(runs)
    assert {name: run.config[name] for name in CONFIG} == CONFIG

    of_disk = [row for folder in runs for row in recorded(folder)]
    # The parts of a run count its lines apart; on the server they are one.
    assert [row["_step"] for row in arrived(run)] == list(range(len(of_disk)))
    for there, here in zip(arrived(run), of_disk, strict=True):
        assert there.keys() == here.keys()
        assert {**there, "_step": 0} == {**here, "_step": 0}
    assert curves(run) == in_csv(tmp_path)
    assert run.summary["valid_loss"] == list(curves(run)["valid_loss"].values())[-1]
    steps_shown = (3, 6, 9, 12) if continued else (3, 6)
    require_samples(run, tmp_path, steps_shown)
    assert rows_of_tables(server) == rows_expected(*steps_shown)
    last = (tmp_path / LAST).read_bytes()
    assert [kept for names, kept in checkpoints(server).items() if "last" in names] == [last]
    media = {
        str(file.relative_to(files)): file.read_bytes()
        for files in tmp_path.glob("wandb/offline-run-*/files")
        for file in files.glob("media/**/*")
        if file.is_file()
    }
    assert media
    assert {name: run.files[name] for name in media} == media


@pytest.mark.parametrize("how", ["500", "gone", "wandb's process"])
def test_training_goes_on_without_the_server(
    how: str, server: WandbServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails before wandb has sent anything but the configuration, and stays away."""

    def fail() -> None:
        if how == "500":
            server.failing = lambda request: True
        elif how == "gone":
            server.close()
        else:
            kill_wandb()

    train(tmp_path, 6, AfterStep(2, fail), finish_timeout_s=1)
    assert (tmp_path / LAST).is_file()
    assert sorted(in_csv(tmp_path)["valid_loss"]) == [3, 6]
    assert checkpoints(server) == {}
    assert "logger=wandb: the checkpoints could not be uploaded" in caplog.text
    if how == "wandb's process":
        return
    (kept,) = tmp_path.glob("wandb/run-*")
    assert f"wandb sync --include-online {kept}" in caplog.text
    if how == "500":  # and later it is there again
        server.failing = lambda request: False
        wandb.teardown()
        sync(kept, options=("--include-online",))
        assert curves(only_run(server)) == in_csv(tmp_path)
        require_samples(only_run(server), tmp_path, (3, 6))


def kill_wandb() -> None:
    """Kill what wandb has started, as the kernel does for want of memory."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        if "wandb-core" in child.name():
            child.kill()


def test_a_server_that_was_away_gets_everything(server: WandbServer, tmp_path: Path) -> None:
    def fails(does: bool) -> Callable[[], None]:
        return lambda: setattr(server, "failing", lambda request: does)

    train(tmp_path, 6, AfterStep(2, fails(True)), AfterStep(5, fails(False)), finish_timeout_s=60)
    run = only_run(server)
    assert run.exit_codes == [0]
    assert curves(run) == in_csv(tmp_path)
    require_samples(run, tmp_path, (3, 6))
    assert rows_of_tables(server) == rows_expected(3, 6)
    assert set(checkpoints(server)) == {("best", "last")}


def test_a_slow_server_that_answers_is_waited_for(server: WandbServer, tmp_path: Path) -> None:
    """Longer than one that does not: it takes nothing until it has been asked whether it is
    there."""
    asked_before: list[int] = []

    def is_busy(request: str) -> bool:
        return request == "file_stream" and "GetViewer" not in server.asked[asked_before[0] :]

    def become_busy() -> None:
        asked_before.append(len(server.asked))
        server.failing = is_busy

    train(tmp_path, 6, AfterStep(6, become_busy), finish_timeout_s=0.2)
    run = only_run(server)
    assert run.exit_codes == [0]
    assert curves(run) == in_csv(tmp_path)


def test_a_run_that_fails_says_so_and_uploads_no_checkpoint(
    server: WandbServer, tmp_path: Path
) -> None:
    def fail() -> None:
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        train(tmp_path, 6, AfterStep(4, fail))
    assert only_run(server).exit_codes == [1]
    assert checkpoints(server) == {}
    assert sorted(curves(only_run(server))["valid_loss"]) == [3]
    assert os.environ.get("WANDB_DATA_DIR") is None
