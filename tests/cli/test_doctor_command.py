"""`svc-doctor` as a user types it."""

import json
from pathlib import Path

import pytest

from command_line import Terminal
from doctor.material import save, sung
from svc.training.devices import choose_trainer


@pytest.mark.parametrize("flag", ["--json", "json=true"])
def test_json_is_all_that_is_printed(flag: str, terminal: Terminal) -> None:
    save(terminal.folder / "my songs" / "one.wav", sung(seconds=3.0))
    said = terminal("svc-doctor", "dataset.path=my songs", flag)
    found = json.loads(said.out)
    assert found["dataset"] == "my songs"
    assert [file["name"] for file in found["files"]] == ["one.wav"]
    assert (terminal.folder / "outputs" / "doctor" / "my songs" / "report.html").is_file()


def test_a_verdict_and_what_to_do_are_printed(terminal: Terminal) -> None:
    save(terminal.folder / "songs" / "one.wav", sung(seconds=3.0))
    (terminal.folder / "songs" / "two.wav").write_text("no audio")
    said = terminal("svc-doctor", "dataset.path=songs", "output=checkup")
    assert "songs: fix these first" in said.out
    assert "two.wav" in said.out
    assert "Export these files again" in said.out
    assert str(Path("checkup") / "report.html") in said.out
    assert (terminal.folder / "checkup" / "report.html").is_file()
    assert {path.name for path in terminal.folder.iterdir()} == {"songs", "checkup"}


def test_without_a_path_the_machine_is_examined(terminal: Terminal) -> None:
    found = json.loads(terminal("svc-doctor", "--json").out)
    assert found["recommendation"]["trainer"] == choose_trainer()
    assert found["recommendation"]["batch_size"] >= 1
    assert choose_trainer() in found["recommendation"]["working"]
    assert found["machine"]["devices"][0]["name"] == "cpu"
    assert list(terminal.folder.iterdir()) == []


def test_folders_that_cannot_be_examined_are_refused(terminal: Terminal) -> None:
    assert "does not exist" in terminal.refused("svc-doctor", "dataset.path=nowhere")
    (terminal.folder / "empty").mkdir()
    assert "holds no audio file" in terminal.refused("svc-doctor", "dataset.path=empty")
    assert "did you mean output?" in terminal.refused("svc-doctor", "ouput=x")
    assert [path.name for path in terminal.folder.iterdir()] == ["empty"]
