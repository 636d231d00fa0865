"""What is told around a run; the whole of it is seen in test_commands.py."""

from pathlib import Path

import pytest

from svc.cli.announcements import from_here, in_words, tell_shared_cores


@pytest.mark.parametrize(("processes", "is_told"), [(2, False), (3, True)])
def test_processes_that_share_cores_are_told_of(
    processes: int,
    is_told: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("svc.cli.announcements.available_cores", lambda: 2)
    tell_shared_cores(processes)
    assert ("trainer.devices=3: so many processes share the 2 cores" in caplog.text) == is_told


def test_paths_are_those_that_one_would_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert from_here(tmp_path / "outputs" / "run") == Path("outputs/run")
    assert from_here(Path("outputs/run")) == Path("outputs/run")
    assert from_here(tmp_path.parent) == tmp_path.parent


@pytest.mark.parametrize(
    ("count", "words"), [(288, "288"), (4210, "4 210"), (194_281, "0.2 M"), (15_649_000, "15.6 M")]
)
def test_counts_in_words(count: int, words: str) -> None:
    assert in_words(count) == words
