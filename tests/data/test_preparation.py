"""Recordings become a store: once, resumably, and every bad file is told of."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

import store_material
from bad_audio import write_bad_audio_corpus
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
from svc.data.report import PreparationReport, SpeakerReport
from svc.data.settings import ExtractionSettings
from svc.data.sources import FolderSource
from svc.data.store import FeatureStore
from svc.errors import UserError, UserErrors


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store; not to be changed."""
    folder = tmp_path_factory.mktemp("prepared") / "store"
    prepare_small(source, folder)
    return folder


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Path:
    """A finished store of one's own."""
    CALLS.clear()
    return Path(shutil.copytree(prepared, tmp_path / "store"))


def wanted(**changes: object) -> ExtractionSettings:
    parts = {
        "content": BlockContent,
        "pitch": partial(CrossingPitch, f0_min_hz=60.0),
        "energy": CountedEnergy,
        "slicing": {},
    }
    return ExtractionSettings.of(spec=SPEC, **{**parts, **changes})  # type: ignore[arg-type]


def test_store_holds_what_its_manifest_says(prepared: Path, source: Path) -> None:
    store = FeatureStore.open(prepared, wanted())
    assert store.speakers == ("anna", "bert")
    assert store.content_channels == 3
    for record in store.slices:
        audio = np.load(store.path(record, "audio"))
        assert audio.dtype == np.int16
        assert len(audio) == record.frames * SPEC.hop_samples
        original, _ = soundfile.read(source / record.source, dtype="int16")
        begin = record.start_sample
        # 32767 instead of 32768 as full scale: one step at the most, from rounding.
        assert np.abs(original[begin : begin + len(audio)].astype(int) - audio).max() <= 1
        content = np.load(store.path(record, "content"))
        assert content.shape == (record.content_frames, 3)
        assert content.dtype == np.float16
        f0 = np.load(store.path(record, "f0"))
        assert f0.shape == (record.frames,)
        assert (f0 > 0).mean() == pytest.approx(record.voiced_share, abs=1e-4)
        assert np.median(f0[f0 > 0]) == pytest.approx(record.f0_median_hz, rel=0.2)
        assert np.load(store.path(record, "energy")).shape == (record.frames,)
        level = np.sqrt((audio.astype(float) ** 2).mean()) / 32767
        assert 20 * np.log10(level) == pytest.approx(record.rms_db, abs=0.02)


def test_content_number_is_stored_exactly(prepared: Path) -> None:
    store = FeatureStore.open(prepared)
    content = np.load(store.path(store.slices[0], "content"))
    np.testing.assert_array_equal(content[:, 2], np.arange(len(content)))


def test_nothing_is_done_twice(store: Path, source: Path) -> None:
    before = snapshot(store)
    report = prepare_small(source, store)
    assert not CALLS
    assert (report.extracted_files, report.unchanged_files) == (0, 6)
    assert snapshot(store) == before


def test_changed_pitch_settings_touch_pitch_only(store: Path, source: Path) -> None:
    before = snapshot(store)
    other = partial(CrossingPitch, f0_min_hz=200.0)
    prepare_small(source, store, pitch=other)
    after = snapshot(store)
    assert set(CALLS) == {"f0"}
    changed = {name for name in before if before[name] != after[name]}
    assert changed >= {"manifest.jsonl", "meta.yaml", "report.json"}
    assert all(
        name.startswith("sources/") or name.endswith(".f0.npy") or "/" not in name
        for name in changed
    )
    # Whichever way it came about, the store is the same.
    fresh = store.parent / "fresh"
    prepare_small(source, fresh, pitch=other)
    assert snapshot(fresh) == after


def test_changed_slicing_touches_everything(store: Path, source: Path) -> None:
    prepare_small(source, store, slicing={"min_s": 0.5, "max_s": 1.5})
    assert set(CALLS) == {"content", "f0", "energy"}
    fresh = store.parent / "fresh"
    prepare_small(source, fresh, slicing={"min_s": 0.5, "max_s": 1.5})
    assert snapshot(fresh) == snapshot(store)
    assert max(record.duration_s for record in FeatureStore.open(store).slices) <= 1.5


def test_mels_come_and_go(store: Path, source: Path) -> None:
    before = snapshot(store)
    prepare_small(source, store, store_mel=True)
    assert FeatureStore.open(store).has_mel
    assert any(name.endswith(".mel.npy") for name in snapshot(store))
    FeatureStore.open(store, wanted())  # more than wanted is no difference
    prepare_small(source, store)
    assert snapshot(store) == before
    assert not CALLS
    prepare_small(source, store, store_mel=True)
    assert any(name.endswith(".mel.npy") for name in snapshot(store))


def test_changed_and_removed_recordings(source: Path, store: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(source, tmp_path / "mine"))
    before = snapshot(store)
    write_voice(mine / "anna" / "1.wav", 7.0, seed=99)
    (mine / "bert" / "2.wav").unlink()
    report = prepare_small(mine, store)
    assert (report.extracted_files, report.unchanged_files, report.removed_files) == (1, 4, 1)
    after = snapshot(store)
    names = {record.source for record in FeatureStore.open(store).slices}
    assert names == {"anna/0.wav", "anna/1.wav", "anna/2.wav", "bert/0.wav", "bert/1.wav"}
    for name in before.keys() & after.keys():
        if name.startswith("features/anna/0_"):
            assert before[name] == after[name]
    fresh = tmp_path / "fresh"
    prepare_small(mine, fresh)
    assert {k: v for k, v in snapshot(fresh).items() if k != "report.json"} == {
        k: v for k, v in after.items() if k != "report.json"
    }


def test_deleted_arrays_are_made_again(store: Path, source: Path) -> None:
    before = snapshot(store)
    victim = next((store / "features" / "anna").glob("*.f0.npy"))
    victim.unlink()
    prepare_small(source, store)
    assert snapshot(store) == before


def test_other_settings_are_refused_with_the_difference(prepared: Path) -> None:
    with pytest.raises(UserError) as refusal:
        FeatureStore.open(
            prepared,
            wanted(pitch=partial(CrossingPitch, f0_min_hz=40.0), slicing={"max_s": 15.0}),
        )
    message = str(refusal.value)
    assert "pitch.f0_min_hz: stored 60.0, wanted 40.0" in message
    assert "slicing.max_s: stored 12.0, wanted 15.0" in message
    assert "svc-preprocess" in message
    assert len(message.splitlines()) == 4


def test_another_extractor_is_named_in_the_difference(prepared: Path) -> None:
    with pytest.raises(UserError, match=r"energy._target_: stored .*CountedEnergy.*RmsEnergy"):
        FeatureStore.open(prepared, wanted(energy=CountedEnergy.__mro__[1]))


def test_bad_files_are_named_and_good_ones_prepared(tmp_path: Path) -> None:
    corpus = write_bad_audio_corpus(tmp_path / "voices" / "anna")
    write_voice(tmp_path / "voices" / "anna" / "a good onе.wav", 2.0, seed=1)
    report = prepare_small(tmp_path / "voices", tmp_path / "store")
    assert report.speakers[0].recordings == 1
    skipped = {file.name: file.reason for file in report.skipped}
    expected = {
        f"anna/{path.name}"
        for name, path in corpus.items()
        if name not in ("missing", "folder", "raw")  # no audio files by their names
    }
    assert set(skipped) == expected
    assert all(reason and "Traceback" not in reason for reason in skipped.values())
    saved = json.loads((tmp_path / "store" / "report.json").read_text(encoding="utf-8"))
    assert {file["name"]: file["reason"] for file in saved["skipped"]} == skipped


def test_only_bad_files_is_the_users_fault(tmp_path: Path) -> None:
    write_bad_audio_corpus(tmp_path / "voices" / "anna")
    with pytest.raises(UserErrors, match="None of the 25 recording") as failure:
        prepare_small(tmp_path / "voices", tmp_path / "store")
    assert any(fault.startswith("anna/nan.wav: ") for fault in failure.value.faults)
    assert not (tmp_path / "store" / "manifest.jsonl").exists()


class FailingPitch(CrossingPitch):
    """Cannot digest one of the recordings."""

    def track(self, audio, sample_rate_hz, hop_samples):  # type: ignore[no-untyped-def]
        if float(audio.abs().max()) > 0.8:
            raise RuntimeError("too loud for me")
        return super().track(audio, sample_rate_hz, hop_samples)


def test_a_failing_extractor_names_the_recording(tmp_path: Path) -> None:
    write_voice(tmp_path / "anna" / "fine.wav", 2.0, seed=1)
    write_voice(tmp_path / "anna" / "loud.wav", 2.0, seed=1, peak=0.9)
    report = prepare_small(tmp_path, tmp_path / "store", pitch=FailingPitch)
    (skipped,) = report.skipped
    assert skipped.name == "anna/loud.wav"
    assert "RuntimeError: too loud for me" in skipped.reason
    assert not list((tmp_path / "store" / "features").rglob("loud*"))
    assert not list((tmp_path / "store" / "sources").glob("loud*"))


def test_peaks_over_full_scale_are_scaled_not_clipped(tmp_path: Path) -> None:
    write_voice(tmp_path / "anna" / "hot.wav", 3.0, seed=1, peak=2.5)
    prepare_small(tmp_path / "anna", tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    record = store.slices[0]
    original, _ = soundfile.read(tmp_path / "anna" / "hot.wav", dtype="float32")
    audio = np.load(store.path(record, "audio")).astype(np.float32) / 32767
    assert record.peak_db == 0.0
    assert record.clipped_share > 0.2
    np.testing.assert_allclose(audio / record.gain, original[: len(audio)], atol=1e-4)


def test_long_recordings_are_cut_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_voice(tmp_path / "anna" / "long.wav", 60.0, seed=1)
    monkeypatch.setattr("svc.data.cutting._BLOCK_S", 14.0)
    prepare_small(tmp_path / "anna", tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    original, _ = soundfile.read(tmp_path / "anna" / "long.wav", dtype="int16")
    end = 0
    for record in sorted(store.slices, key=lambda record: record.start_sample):
        assert record.start_sample % SPEC.hop_samples == 0
        assert record.start_sample >= end
        assert record.duration_s <= 12.0
        audio = np.load(store.path(record, "audio"))
        end = record.start_sample + len(audio)
        assert np.abs(original[record.start_sample : end].astype(int) - audio).max() <= 1
    # Nothing in it is a long silence.
    assert sum(record.frames for record in store.slices) == len(original) // SPEC.hop_samples


def test_worker_processes_give_the_same_bytes(prepared: Path, source: Path, tmp_path: Path) -> None:
    prepare_small(source, tmp_path / "store", workers=2)
    assert snapshot(tmp_path / "store") == snapshot(prepared)


def test_a_store_that_cannot_be_written_says_so(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Cannot make the folder"):
        prepare_small(source, tmp_path / "file" / "store")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workers": 0}, "preparation.workers=0"),
        ({"valid_fraction": 1.5}, "valid_fraction=1.5"),
        ({"valid_files": -1}, "valid_files=-1"),
        ({"slicing": {"longest": 3}}, "no setting longest"),
    ],
)
def test_arguments_out_of_range(
    changes: dict[str, object], words: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        prepare_small(source, tmp_path / "store", **changes)


KILLED = """
import sys, time
sys.path[:0] = [{tests!r}]
import store_material
slow = store_material.CrossingPitch.track
def track(self, audio, sample_rate_hz, hop_samples):
    time.sleep({delay_s})
    return slow(self, audio, sample_rate_hz, hop_samples)
store_material.CrossingPitch.track = track
print("ready", flush=True)
from pathlib import Path
store_material.prepare_small(Path({source!r}), Path({store!r}), workers={workers})
"""


def run_and_kill(source: Path, store: Path, at_files: int, workers: int = 1) -> bool:
    """Prepare in a process of its own and kill -9 it once so many files are in the store; whether
    it was killed before it had finished."""
    script = KILLED.format(
        tests=str(Path(store_material.__file__).parent),
        source=str(source),
        store=str(store),
        workers=workers,
        delay_s=0.02,
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    while process.poll() is None:
        if sum(1 for _ in store.rglob("*.*")) >= at_files:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.001)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def check_killed_store(store: Path) -> None:
    """Whatever is there under its own name is whole."""
    for path in store.rglob("*.npy"):
        if not path.name.startswith("."):
            np.load(path)
    for path in (store / "sources").glob("[!.]*.json"):
        json.loads(path.read_text(encoding="utf-8"))


def test_killed_preparation_goes_on_to_the_same_bytes(
    prepared: Path, source: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert run_and_kill(source, store, at_files=9)
    check_killed_store(store)
    with pytest.raises(UserError, match="has not finished"):
        FeatureStore.open(store)
    report = prepare_small(source, store)
    assert report.unchanged_files >= 1
    assert snapshot(store) == snapshot(prepared)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_preparation_killed_many_times(
    prepared: Path, source: Path, tmp_path: Path, workers: int
) -> None:
    store = tmp_path / "store"
    rng = np.random.default_rng(workers)
    moments = sorted(rng.integers(2, 34, size=6))
    for moment in moments:
        run_and_kill(source, store, int(moment), workers)
        check_killed_store(store)
    prepare_small(source, store)
    assert snapshot(store) == snapshot(prepared)


def test_report_says_what_is_there(prepared: Path, source: Path) -> None:
    report = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
    anna = report["speakers"][0]
    seconds = sum(soundfile.info(path).duration for path in (source / "anna").glob("*.wav"))
    assert anna["speaker"] == "anna"
    assert anna["minutes"] == pytest.approx(seconds / 60, abs=0.01)
    assert anna["recordings"] == 3
    assert anna["valid_recordings"] == 1
    assert 60 <= anna["f0_low_hz"] < anna["f0_median_hz"] < anna["f0_high_hz"] <= 1600
    assert report["skipped"] == []


def test_report_can_be_printed(source: Path, tmp_path: Path) -> None:
    from rich.console import Console

    write_bad_audio_corpus(tmp_path / "voices" / "an[n]a")
    write_voice(tmp_path / "voices" / "an[n]a" / "good.wav", 2.0, seed=1)
    report = prepare_small(tmp_path / "voices", tmp_path / "store")
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(report)
    text = console.export_text()
    assert "skipped an[n]a/nan.wav: " in text
    assert "1 recording(s) extracted, 0 unchanged, 0 removed, 25 skipped." in text


def test_report_is_whole_on_a_terminal_of_eighty_columns() -> None:
    from rich.console import Console

    speaker = SpeakerReport(
        speaker="Alexandra Mezzosoprano (live)",
        recordings=1234,
        valid_recordings=62,
        slices=12345,
        minutes=1234.5,
        valid_minutes=123.4,
        f0_low_hz=123.0,
        f0_median_hz=456.0,
        f0_high_hz=1234.0,
        voiced_share=1.0,
        rms_db=-23.4,
        peak_db=-10.2,
        clipped_share=0.12345,
    )
    path = Path("data") / "prepared" / "a rather long name of a folder of recordings-0a1b2c"
    report = PreparationReport("recordings", path, (speaker,), (), (), 1, 0, 0)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report)
    text = console.export_text()
    assert "…" not in text
    for fact in ("1234.5", "123.4", "1234", "12345", "123-456-1234", "100%", "-23.4", "-10.2"):
        assert f" {fact}" in text, fact
    assert "12.345%" in text
    assert "Mezzosoprano" in text  # whole words
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())


def test_source_names_the_store(source: Path, tmp_path: Path) -> None:
    assert FolderSource(source / "anna").recordings()[0].speaker == "anna"
    assert FolderSource(source / "anna", name="Anna").recordings()[0].speaker == "Anna"
