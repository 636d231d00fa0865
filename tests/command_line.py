"""Commands as a user types them, run inside the test's process (torch is imported only once)."""

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


class Terminal:
    """Runs commands in an empty folder.

    Args:
        folder: to run in.
        monkeypatch: sets the command line.
        capsys: catches what is said.
    """

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, command: str, *arguments: str) -> Said:
        """`command` is a console script such as "svc-train"."""
        module = command.removeprefix("svc-").replace("-", "_")
        main = import_module(f"svc.cli.{module}").main
        self._monkeypatch.setattr(sys, "argv", [command, *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    def refused(self, command: str, *arguments: str) -> str:
        """The one message of a command that the user must change; no traceback, nothing left."""
        said = self.run(command, *arguments)
        assert said.code == 2, said
        assert "Traceback" not in said.err, said.err
        messages = [line for line in said.err.splitlines() if line.startswith(f"{command}: ")]
        assert len(messages) == 1, said.err
        return said.err[said.err.index(messages[0]) :]

    def __call__(self, command: str, *arguments: str) -> Said:
        """Run a command that must succeed."""
        said = self.run(command, *arguments)
        assert said.code == 0, said.err
        return said


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """An empty folder to type commands in; Hydra's traces in the process are removed."""
    for name in ("SVC_DEBUG", "SVC_DATA_DIR", "SVC_OUTPUT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Terminal(tmp_path, monkeypatch, capsys)
    root.handlers[:] = handlers
    root.setLevel(level)
    GlobalHydra.instance().clear()
