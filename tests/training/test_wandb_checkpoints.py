"""Which checkpoints go to wandb, under which names, and which leave it."""

import os
from pathlib import Path
from typing import Any

import pytest
import wandb

from svc.training import wandb_checkpoints
from svc.training.loggers import wandb_logger
from svc.training.wandb_checkpoints import log_checkpoints


class Version:
    """An artifact on the server."""

    def __init__(self, content: bytes, aliases: list[str], policy: str = "") -> None:
        self.content, self.aliases, self.policy = content, aliases, policy
        self.deleted = self.committed = False

    def wait(self, timeout: float) -> None:
        assert timeout > 0
        self.committed = True

    def delete(self) -> None:
        assert not self.aliases
        self.deleted = True


class Server:
    """As much of a run, and of wandb's public interface, as takes artifacts."""

    id, entity, project = "abc", "us", "svc"
    newest: "Server"

    def __init__(self, *, resumed: bool = False, offline: bool = False) -> None:
        self.resumed, self.offline = resumed, offline
        self.versions: list[Version] = []
        Server.newest = self

    def log_artifact(self, artifact: Any, aliases: list[str]) -> Version:
        assert (artifact.name, artifact.type) == ("model-abc", "model")
        (entry,) = artifact.manifest.entries.values()
        assert str(entry.path) == "model.ckpt"
        for version in self.versions:  # a name belongs to one version
            version.aliases = [a for a in version.aliases if a not in (*aliases, "latest")]
        made = Version(Path(entry.local_path).read_bytes(), [*aliases, "latest"], entry.local_path)
        self.versions.append(made)
        return made

    def artifacts(self, kind: str, name: str) -> list[Version]:
        assert (kind, name) == ("model", "us/svc/model-abc")
        assert all(version.committed for version in self.versions[-1:])
        return self.versions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(wandb, "Api", lambda: Server.newest)
    made = tmp_path / "checkpoints"
    made.mkdir()
    (made / "best.ckpt").write_bytes(b"best")
    (made / "last.ckpt").write_bytes(b"last")
    return made


def test_two_versions_each_under_its_name(folder: Path) -> None:
    server = Server()
    log_checkpoints(server, folder)
    assert [(v.content, v.aliases) for v in server.versions] == [
        (b"best", ["best"]),
        (b"last", ["last", "latest"]),
    ]
    assert all(version.committed for version in server.versions)
    # A gigabyte is not copied to be uploaded.
    assert server.versions[0].policy == str(folder / "best.ckpt")


def test_an_offline_run_keeps_a_copy(folder: Path) -> None:
    server = Server(offline=True)
    log_checkpoints(server, folder)
    (folder / "best.ckpt").write_bytes(b"of a continuation")
    assert [Path(v.policy).read_bytes() for v in server.versions] == [b"best", b"last"]


def test_one_file_under_two_names_is_one_version(folder: Path) -> None:
    (folder / "last.ckpt").unlink()
    os.link(folder / "best.ckpt", folder / "last.ckpt")
    server = Server()
    log_checkpoints(server, folder)
    assert [v.aliases for v in server.versions] == [["best", "last", "latest"]]


@pytest.mark.parametrize("there", [[], ["last"]])
def test_what_is_not_there_is_left_out(folder: Path, there: list[str]) -> None:
    for name in {"best", "last"} - set(there):
        (folder / f"{name}.ckpt").unlink()
    server = Server(resumed=True)
    server.artifacts = lambda kind, name: []  # type: ignore[method-assign]
    log_checkpoints(server, folder)
    assert [v.aliases for v in server.versions] == [[name, "latest"] for name in there]


def test_versions_do_not_pile_up_over_continuations(folder: Path) -> None:
    server = Server(resumed=True)
    for content in (b"1", b"2", b"3"):
        (folder / "last.ckpt").write_bytes(content)
        log_checkpoints(server, folder)
    kept = [(v.content, v.aliases) for v in server.versions if not v.deleted]
    assert kept == [(b"best", ["best"]), (b"3", ["last", "latest"])]
    assert len(server.versions) == 6


def test_versions_that_cannot_be_deleted_are_told_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(kind: str, name: str) -> Any:
        raise wandb.CommError("no permission")

    server = Server(resumed=True)
    server.artifacts = refuse  # type: ignore[method-assign]
    log_checkpoints(server, folder)
    assert "no permission" in caplog.text


def test_where_wandb_does_not_answer_nothing_is_begun(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Any:
        raise wandb.CommError("no connection")

    server = Server()
    monkeypatch.setattr(wandb, "Api", refuse)
    with pytest.raises(wandb.CommError, match="no connection"):
        log_checkpoints(server, folder)
    assert server.versions == []


class Run:
    """A run as far as a logger ends it."""

    def __init__(self, folder: Path, offline: bool) -> None:
        self.dir, self.offline = str(folder / "files"), offline
        self.exit_code: int | None = None

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.mark.parametrize(
    ("wanted", "offline", "status", "uploaded"),
    [
        ("auto", False, "success", True),
        ("auto", False, "failed", False),  # it will be continued, or is of no use
        ("auto", True, "success", False),
        (True, True, "success", True),
        (False, False, "success", False),
    ],
)
def test_when_they_are_uploaded(
    wanted: Any,
    offline: bool,
    status: str,
    uploaded: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from svc.training import wandb_logger as of_runs

    seen: list[Path] = []
    monkeypatch.setattr(of_runs, "log_checkpoints", lambda run, folder: seen.append(folder))
    logger = wandb_logger("svc", str(tmp_path), offline=True, checkpoints=wanted)
    run = Run(tmp_path, offline)
    logger._experiment = run  # type: ignore[assignment]
    logger.finalize(status)
    assert seen == ([tmp_path / "checkpoints"] if uploaded else [])
    assert run.exit_code == int(status != "success")
    assert wandb_checkpoints._TYPE == "model"
