"""The fingerprint of a dataset changes with what a training reads of it, and with nothing else."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from store_material import BlockContent, prepare_small, write_dataset, write_voice
from svc.data.fingerprint import DatasetRecord, dataset_fingerprint
from svc.data.store import FeatureStore, SliceRecord


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in `voices`, their features in `store`."""
    folder = tmp_path_factory.mktemp("fingerprint")
    write_dataset(folder / "voices", files=2)
    prepare_small(folder / "voices", folder / "store")
    return folder


def fingerprint(folder: Path) -> str:
    return dataset_fingerprint(FeatureStore.open(folder))


def test_it_is_the_same_elsewhere_and_for_mels_that_nobody_has_to_read(
    prepared: Path, tmp_path: Path
) -> None:
    before = fingerprint(prepared / "store")
    assert len(before) == 16
    int(before, 16)
    shutil.copytree(prepared / "voices", tmp_path / "moved")
    prepare_small(tmp_path / "moved", tmp_path / "store", store_mel=True)
    store = FeatureStore.open(tmp_path / "store")
    assert store.has_mel
    assert dataset_fingerprint(store) == before
    backwards = FeatureStore(store.folder, store.meta, store.slices[::-1])
    assert dataset_fingerprint(backwards) == before


def test_recordings_and_settings_of_features_change_it(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared / "voices", tmp_path / "voices")
    seen = [fingerprint(prepared / "store")]
    write_voice(tmp_path / "voices" / "anna" / "0.wav", 3.5, 99)
    prepare_small(tmp_path / "voices", tmp_path / "store")
    seen.append(fingerprint(tmp_path / "store"))
    write_voice(tmp_path / "voices" / "anna" / "new.wav", 3.5, 7)
    prepare_small(tmp_path / "voices", tmp_path / "store")
    seen.append(fingerprint(tmp_path / "store"))
    content = partial(BlockContent, scale=2.0)
    prepare_small(tmp_path / "voices", tmp_path / "store", content=content)
    seen.append(fingerprint(tmp_path / "store"))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    "changed",
    [
        lambda record: replace(record, id=record.id + "x"),
        lambda record: replace(record, speaker="bert"),
        lambda record: replace(record, source_sha256="0" * 64),
        lambda record: replace(record, start_sample=record.start_sample + 1),
        lambda record: replace(record, frames=record.frames - 1),
        lambda record: replace(record, content_frames=record.content_frames - 1),
        lambda record: replace(record, split="valid" if record.split == "train" else "train"),
    ],
    ids=["id", "speaker", "recording", "start", "length", "content", "split"],
)
def test_everything_of_a_slice_that_training_reads_counts(
    prepared: Path, changed: Callable[[SliceRecord], SliceRecord]
) -> None:
    store = FeatureStore.open(prepared / "store")
    other = FeatureStore(store.folder, store.meta, [changed(store.slices[0]), *store.slices[1:]])
    assert dataset_fingerprint(other) != dataset_fingerprint(store)


def test_the_place_of_a_speaker_counts(prepared: Path) -> None:
    store = FeatureStore.open(prepared / "store")
    other = replace(store.meta, speakers=store.speakers[::-1])
    assert dataset_fingerprint(FeatureStore(store.folder, other, store.slices)) != (
        dataset_fingerprint(store)
    )


def test_what_has_become_of_a_dataset_is_told(prepared: Path, tmp_path: Path) -> None:
    then = DatasetRecord.of(FeatureStore.open(prepared / "store"))
    assert then.changes(then) == []
    shutil.copytree(prepared / "voices", tmp_path / "voices")
    voices = tmp_path / "voices"
    for number in range(4):
        write_voice(voices / "carl" / f"{number}.wav", 3.5, 20 + number)
    (voices / "bert" / "0.wav").unlink()
    write_voice(voices / "anna" / "1.wav", 3.8, 99)
    content = partial(BlockContent, scale=2.0)
    prepare_small(voices, tmp_path / "store", content=content)
    now = DatasetRecord.of(FeatureStore.open(tmp_path / "store"))
    assert then.changes(now) == [
        "slices: 4 → 7",
        "minutes: 0.2 → 0.4",
        "speakers: anna, bert → anna, bert, carl",
        "recordings added: 4 (carl/0.wav, carl/1.wav, carl/2.wav, …)",
        "recordings removed: 1 (bert/0.wav)",
        "recordings changed: 1 (anna/1.wav)",
        "content: extracted with other settings or weights",
    ]
    assert not any("wav" in line for line in then.without_names().changes(now))


def test_another_split_is_told_as_such(prepared: Path) -> None:
    store = FeatureStore.open(prepared / "store")
    other: dict[str, Literal["train", "valid"]] = {"train": "valid", "valid": "train"}
    swapped = [replace(record, split=other[record.split]) for record in store.slices]
    then = DatasetRecord.of(store)
    assert then.valid_slices == 2
    now = DatasetRecord.of(FeatureStore(store.folder, store.meta, swapped))
    assert then.changes(now) == ["slices: cut or split between training and validation otherwise"]


def test_a_record_comes_back_and_a_damaged_one_is_refused(prepared: Path) -> None:
    record = DatasetRecord.of(FeatureStore.open(prepared / "store"))
    plain = json.loads(json.dumps(record.to_plain()))
    assert DatasetRecord.from_plain(plain) == record
    for damaged in (None, [], {}, {**plain, "slices": "4"}, {**plain, "more": 1}):
        with pytest.raises(ValueError, match="no record of a dataset"):
            DatasetRecord.from_plain(damaged)
