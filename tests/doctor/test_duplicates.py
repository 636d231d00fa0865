"""The same recording is recognised, byte for byte and encoded anew; others are not."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from doctor.material import noise, save, sung
from svc.data.sources import FolderSource
from svc.doctor.recordings import Examination, examine


def examined_folder(folder: Path) -> Examination:
    source = FolderSource(folder)
    return examine(source.name, source.recordings(), 1)


def test_a_copied_file_is_an_exact_duplicate(tmp_path: Path) -> None:
    save(tmp_path / "a" / "one.wav", sung())
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "one.wav", tmp_path / "b" / "two.wav")
    (pair,) = examined_folder(tmp_path).duplicates
    assert (pair.first, pair.second, pair.exact) == (0, 1, True)


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".flac"])
def test_a_recording_that_was_encoded_anew_is_recognised(suffix: str, tmp_path: Path) -> None:
    save(tmp_path / "a.wav", sung())
    save(tmp_path / f"b{suffix}", 0.5 * sung())
    (pair,) = examined_folder(tmp_path).duplicates
    assert (pair.first, pair.second, pair.exact) == (0, 1, False)


def test_other_performances_of_the_same_score_are_not_duplicates(tmp_path: Path) -> None:
    """Index 1 is a score that every singer sings; lengths are made equal."""
    takes = [sung(singer, 1) for singer in range(3)] + [sung(0, 2), sung(0, 3)]
    size = min(len(take) for take in takes)
    for index, take in enumerate(takes):
        save(tmp_path / f"{index}.wav", take[:size])
    save(tmp_path / "noise.wav", noise(size, -20))
    save(tmp_path / "more noise.wav", noise(size, -20, seed=1))
    found = examined_folder(tmp_path)
    assert len(found.files) == 7
    assert found.duplicates == ()


def test_every_further_copy_is_named_once(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"{name}.wav", sung())
    save(tmp_path / "d.wav", sung(1))
    pairs = examined_folder(tmp_path).duplicates
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (0, 2)]
    assert np.all([pair.exact for pair in pairs])
