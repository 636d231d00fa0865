"""Which recording becomes which file."""

from pathlib import Path

import pytest

from svc.errors import UserError
from svc.inference.file_plan import plan_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my songs"
    (folder / "album").mkdir(parents=True)
    for name in ("ä one.wav", "album/two.flac"):
        (folder / name).touch()
    return folder


def test_names_where_none_is_given(folder: Path) -> None:
    source = folder / "ä one.wav"
    assert plan_files(source, None, "anna")[0][1] == folder / "ä one_anna.wav"
    assert plan_files(source, folder / "out", "anna", "flac")[0][1] == folder / "out/ä one.flac"
    assert plan_files(folder, None, "anna")[0][1].parent.parent == folder.parent / "my songs_anna"


def test_wrong_paths(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"input=.*nowhere.*does not exist"):
        plan_files(tmp_path / "nowhere", None, "anna")
    with pytest.raises(UserError, match=r"ends in \.mp3"):
        plan_files(folder / "ä one.wav", tmp_path / "out.mp3", "anna")
    with pytest.raises(UserError, match="is a file, but input"):
        plan_files(folder, tmp_path / "out.wav", "anna")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no recordings"):
        plan_files(tmp_path / "empty", tmp_path / "out", "anna")
