"""Shares of a dataset, prepared by processes of their own, become the same store."""

import json
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from store_material import (
    CALLS,
    SPEC,
    BlockContent,
    CountedEnergy,
    CrossingPitch,
    prepare_small,
    snapshot,
    write_dataset,
    write_voice,
)
from svc.data.recipe import Recipe
from svc.data.shards import Shard, ShardReport, prepare_shard
from svc.data.sources import FolderSource
from svc.data.store import FeatureStore
from svc.errors import UserError, UserErrors


class FailingPitch(CrossingPitch):
    """Cannot digest loud recordings."""

    def track(self, audio, sample_rate_hz, hop_samples):  # type: ignore[no-untyped-def]
        if float(audio.abs().max()) > 0.8:
            raise RuntimeError("too loud for me")
        return super().track(audio, sample_rate_hz, hop_samples)


PITCH = partial(FailingPitch, f0_min_hz=60.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six good recordings, one that is no audio, and one that the pitch tracker fails on."""
    folder = write_dataset(tmp_path_factory.mktemp("source"))
    (folder / "anna" / "broken.wav").write_bytes(b"RIFF, but no audio")
    write_voice(folder / "bert" / "loud.wav", 2.0, seed=5, peak=0.9)
    return folder


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of a store that was prepared in one go."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    prepare_small(source, folder, pitch=PITCH)
    return snapshot(folder)


def run_shard(source: Path, store: Path, index: int, count: int, **parts: Any) -> ShardReport:
    made_of: dict[str, Any] = {"content": BlockContent, "pitch": PITCH, "energy": CountedEnergy}
    recipe = Recipe(SPEC, {}, **{**made_of, **parts})
    shard = Shard(index, count)
    return prepare_shard(
        FolderSource(source), store, shard, recipe=recipe, workers=1, progress=False
    )


def merge(source: Path, store: Path, count: int = 2, **parts: Any) -> Any:
    return prepare_small(source, store, **{"pitch": PITCH, "merge": count, **parts})


@pytest.mark.parametrize("merge_by", [2, 1, None], ids=["merge", "count not told", "ordinary"])
def test_shards_and_a_merge_give_the_store_of_one_preparation(
    merge_by: int | None, source: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    reports = [run_shard(source, store, index, 2) for index in (1, 0)]
    assert not (store / "manifest.jsonl").exists()
    assert not (store / "meta.yaml").exists()
    with pytest.raises(UserError, match="has not finished"):
        FeatureStore.open(store)
    assert sum(report.extracted_files for report in reports) == 6
    skipped = sorted(file.name for report in reports for file in report.skipped)
    assert skipped == ["anna/broken.wav", "bert/loud.wav"]
    CALLS.clear()
    merged = prepare_small(source, store, pitch=PITCH, merge=merge_by)
    # The ordinary preparation tries the one that failed again, up to its pitch; a merge does not.
    assert dict(CALLS) == ({"content": 1} if merge_by is None else {})
    assert (merged.extracted_files, merged.unchanged_files) == (0, 6)
    assert [file.name for file in merged.skipped] == skipped
    assert snapshot(store) == whole


def test_a_missing_shard_is_named_and_nothing_is_extracted(
    source: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    run_shard(source, store, 0, 3)
    run_shard(source, store, 2, 3)
    before = snapshot(store)
    CALLS.clear()
    with pytest.raises(UserErrors) as refusal:
        merge(source, store, 3)
    assert not CALLS
    assert snapshot(store) == before
    names = [recording.name for recording in FolderSource(source).recordings()]
    absent = sorted(Shard(1, 3).share(names) - {"anna/broken.wav"})
    assert refusal.value.faults == [f"shard.count=3 shard.index=1: {', '.join(absent)}"]
    with pytest.raises(UserErrors) as refusal:  # how many shards there were was not told
        merge(source, store, 1)
    assert refusal.value.faults == [", ".join(absent)]
    run_shard(source, store, 1, 3)
    merge(source, store, 3)
    assert snapshot(store) == whole


def test_a_shard_goes_on_where_it_was(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = run_shard(source, store, 0, 2)
    assert first.extracted_files > 1
    victim = next((store / "sources").glob("*.json"))
    victim.unlink()
    run_shard(source, store, 1, 2)
    again = run_shard(source, store, 0, 2)
    assert again.extracted_files + again.unchanged_files == first.extracted_files
    assert again.extracted_files == 1
    assert victim.is_file()


def test_failures_count_until_the_file_or_the_settings_change(source: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    write_voice(mine / "anna" / "fine.wav", 2.0, seed=1)
    write_voice(mine / "anna" / "loud.wav", 2.0, seed=1, peak=0.9)
    store = tmp_path / "store"
    for index in range(2):
        run_shard(mine, store, index, 2)
    (skipped,) = merge(mine, store).skipped
    assert "RuntimeError: too loud for me" in skipped.reason
    (failure,) = (store / "failures").glob("*.json")
    assert json.loads(failure.read_text())["reason"] == skipped.reason
    other = partial(FailingPitch, f0_min_hz=70.0)
    with pytest.raises(UserErrors, match="2 of 2 recording"):
        merge(mine, store, pitch=other)
    write_voice(mine / "anna" / "loud.wav", 2.0, seed=2, peak=0.95)
    with pytest.raises(UserErrors, match="1 of 2 recording"):
        merge(mine, store)
    # Whoever extracts tries again, and what works leaves no failure behind.
    write_voice(mine / "anna" / "loud.wav", 2.0, seed=2)
    assert prepare_small(mine, store, pitch=PITCH).extracted_files == 1
    assert not (store / "failures").exists()


def test_a_shard_that_replaces_arrays_reopens_the_store(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    prepare_small(source, store, pitch=PITCH)
    run_shard(source, store, 0, 2)
    assert FeatureStore.open(store).slices  # nothing to do, nothing reopened
    strangers = store / "features" / "carl"
    strangers.mkdir()
    (strangers / ".x.npy.1.partial").touch()  # of another shard, for all this one knows
    other = partial(FailingPitch, f0_min_hz=200.0)
    run_shard(source, store, 0, 2, pitch=other)
    assert not (store / "manifest.jsonl").exists()
    assert list(strangers.iterdir())
    run_shard(source, store, 1, 2, pitch=other)
    merge(source, store, pitch=other)
    fresh = tmp_path / "fresh"
    prepare_small(source, fresh, pitch=other)
    assert snapshot(store) == snapshot(fresh)


class Meeting(CrossingPitch):
    """Goes on only when as many shards as expected are under way at the same time."""

    barrier = threading.Barrier(2)

    def track(self, audio, sample_rate_hz, hop_samples):  # type: ignore[no-untyped-def]
        if not self.barrier.broken:
            self.barrier.wait(timeout=60)
        return super().track(audio, sample_rate_hz, hop_samples)


def test_shards_run_at_the_same_time(source: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    for number in range(4):
        write_voice(mine / "anna" / f"{number}.wav", 2.0, seed=number)
    store, done = tmp_path / "store", []
    shards = [
        threading.Thread(
            target=lambda i: done.append(run_shard(mine, store, i, 2, pitch=Meeting)), args=(i,)
        )
        for i in range(2)
    ]
    for shard in shards:
        shard.start()
    for shard in shards:
        shard.join()
    assert not Meeting.barrier.broken
    assert [report.extracted_files for report in done] == [2, 2]
    merge(mine, store, pitch=Meeting)
    Meeting.barrier.abort()
    prepare_small(mine, tmp_path / "whole", pitch=Meeting)
    assert snapshot(store) == snapshot(tmp_path / "whole")


def test_a_merge_waits_for_a_shard_under_way_and_tidies_its_lock(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    for index in range(2):
        run_shard(source, store, index, 2)
    running = FileLock(store / ".shard-1-of-2.lock")
    waits = threading.Event()
    caplog.handler.addFilter(lambda record: waits.set() or True)
    merging = threading.Thread(target=merge, args=(source, store))
    with running:
        merging.start()
        assert waits.wait(timeout=60)
        assert "Shard 1-of-2 is preparing" in caplog.text
        assert not (store / "manifest.jsonl").exists()
    merging.join()
    assert (store / "manifest.jsonl").exists()
    assert not list(store.glob(".shard-*"))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 40])
def test_every_name_is_in_exactly_one_shard(count: int) -> None:
    names = [f"speaker {number % 3}/{number}.wav" for number in range(23)]
    shares = [Shard(index, count).share(names) for index in range(count)]
    assert sorted(name for share in shares for name in share) == sorted(names)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert shares == [Shard(index, count).share(names[::-1]) for index in range(count)]


def test_a_shard_without_recordings_is_done(source: Path, tmp_path: Path) -> None:
    reports = [run_shard(source, tmp_path / "store", index, 12) for index in range(8, 12)]
    assert all(report.extracted_files == 0 for report in reports)


@pytest.mark.parametrize(
    ("index", "count", "words"),
    [
        (0, 0, "shard.count=0 must be at least 1"),
        (2, 2, "shard.index=2 must be from 0 to 1"),
        (-1, 2, "shard.index=-1 must be from 0 to 1"),
    ],
)
def test_shards_that_cannot_be(index: int, count: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Shard(index, count)
