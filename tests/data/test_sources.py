"""Folders of recordings, and which of them are held out."""

from pathlib import Path

import pytest

from store_material import write_voice
from svc.data.sources import FolderSource
from svc.data.splitting import split_slices
from svc.data.store import SliceRecord
from svc.errors import UserError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_subfolders_are_speakers(tmp_path: Path) -> None:
    touch(
        tmp_path, "bert/b.flac", "anna ä/live/1.WAV", "anna ä/0.mp3", "notes/read.txt", ".x/a.wav"
    )
    found = [(r.speaker, r.name, r.path) for r in FolderSource(tmp_path).recordings()]
    assert found == [
        ("anna ä", "anna ä/0.mp3", tmp_path / "anna ä/0.mp3"),
        ("anna ä", "anna ä/live/1.WAV", tmp_path / "anna ä/live/1.WAV"),
        ("bert", "bert/b.flac", tmp_path / "bert/b.flac"),
    ]


def test_files_alone_are_one_speaker(tmp_path: Path) -> None:
    touch(tmp_path / "carla", "b.wav", "a.wav")
    source = FolderSource(tmp_path / "carla")
    assert source.name == "carla"
    assert [(r.speaker, r.name) for r in source.recordings()] == [
        ("carla", "a.wav"),
        ("carla", "b.wav"),
    ]


def test_a_mixed_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "loose.wav", "anna/a.wav")
    with pytest.raises(UserError, match=r"mixes audio files of its own \(such as loose.wav\)"):
        FolderSource(tmp_path).recordings()


@pytest.mark.parametrize(
    ("path", "words"),
    [("nowhere", "does not exist"), ("file", "is not a folder"), ("empty", "holds no audio file")],
)
def test_folders_without_recordings_are_explained(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as refusal:
        FolderSource(tmp_path / path).recordings()
    assert words in str(refusal.value)
    assert "one subfolder of audio files per speaker" in str(refusal.value)


def record(speaker: str, source: str, index: int = 0) -> SliceRecord:
    return SliceRecord(
        id=f"{source}_{index}",
        speaker=speaker,
        source=source,
        source_sha256="",
        start_sample=512 * index,
        start_s=0.0,
        duration_s=1.0,
        frames=86,
        content_frames=50,
        gain=1.0,
        rms_db=-20.0,
        peak_db=-3.0,
        clipped_share=0.0,
        voiced_share=1.0,
        f0_median_hz=200.0,
        f0_min_hz=100.0,
        f0_max_hz=300.0,
    )


def records(**files: int) -> list[SliceRecord]:
    """Three slices of each of so many files per speaker."""
    return [
        record(speaker, f"{speaker}/{number}.wav", index)
        for speaker, count in files.items()
        for number in range(count)
        for index in range(3)
    ]


def held_out(slices: list[SliceRecord]) -> set[str]:
    return {item.source for item in slices if item.split == "valid"}


@pytest.mark.parametrize("seed", range(5))
def test_split_is_by_recording(seed: int) -> None:
    slices, notes = split_slices(records(anna=20, bert=3, carla=2), seed=seed, valid_fraction=0.1)
    valid = held_out(slices)
    assert valid.isdisjoint({item.source for item in slices if item.split == "train"})
    counts = {s: sum(name.startswith(s) for name in valid) for s in ("anna", "bert", "carla")}
    assert counts == {"anna": 2, "bert": 1, "carla": 1}
    assert notes == []


def test_split_depends_on_the_seed_alone() -> None:
    everything = records(anna=20)
    valid = [held_out(split_slices(everything, seed=seed)[0]) for seed in range(8)]
    assert held_out(split_slices(everything[::-1], seed=0)[0]) == valid[0]
    assert len({frozenset(names) for names in valid}) > 4


def test_order_is_stable_when_recordings_are_added() -> None:
    """Held out before, or new: nothing that was trained on comes to validation."""
    before = held_out(split_slices(records(anna=20), seed=1, valid_files=4)[0])
    after = held_out(split_slices(records(anna=30), seed=1, valid_files=4)[0])
    added = {f"anna/{number}.wav" for number in range(20, 30)}
    assert after - before <= added


def test_every_speaker_is_trained_on() -> None:
    slices, _ = split_slices(records(anna=2, bert=3), seed=0, valid_files=10)
    assert {item.speaker for item in slices if item.split == "train"} == {"anna", "bert"}


def test_a_lone_recording_is_trained_on_wholly_where_others_validate() -> None:
    slices, notes = split_slices(records(anna=1, bert=4), seed=0)
    assert len(held_out(slices)) == 1
    assert all(item.split == "train" for item in slices if item.speaker == "anna")
    assert notes == ["anna has a single recording, so none of it is held out for validation."]


def test_the_end_of_a_lone_recording_validates_where_nothing_else_can() -> None:
    slices = [record("anna", "a.wav", index) for index in range(20)]
    split, notes = split_slices(slices, seed=0)
    assert [item.split for item in split] == ["train"] * 18 + ["valid"] * 2
    assert "its last 2 slice(s) of 20" in notes[0]
    single, notes = split_slices(slices[:1], seed=0)
    assert single[0].split == "train"
    assert "nothing of it is held out" in notes[0]


def test_nothing_is_held_out_where_nothing_is_wanted() -> None:
    assert held_out(split_slices(records(anna=5), seed=0, valid_fraction=0)[0]) == set()
    assert held_out(split_slices(records(anna=5), seed=0, valid_files=0)[0]) == set()


def test_recordings_are_read_from_any_path(tmp_path: Path) -> None:
    from store_material import prepare_small

    write_voice(tmp_path / "Zoë & Co" / "träck 1.wav", 1.0, seed=0)
    write_voice(tmp_path / "Zoë & Co" / "träck  1.wav", 1.0, seed=1)
    report = prepare_small(tmp_path, tmp_path / "a store")
    assert report.speakers[0].recordings == 2
