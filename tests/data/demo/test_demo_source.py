"""The demo data set: same seed, same bytes; killed or changed, remade; nothing foreign deleted."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml

from svc.data.demo import source as source_module
from svc.data.demo.phrases import held_out, training_phrase
from svc.data.demo.singers import SINGERS, singer_by_name
from svc.data.demo.source import DemoSource
from svc.errors import UserError, UserErrors


def small(path: Path, *, seed: int = 0, minutes_per_singer: float = 0.06) -> DemoSource:
    return DemoSource(
        path, seed=seed, singers=2, minutes_per_singer=minutes_per_singer, phrase_s=[2.0, 2.2]
    )


def contents(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def test_layout_and_recordings(tmp_path: Path) -> None:
    source = small(tmp_path / "my demo")
    recordings = source.recordings()
    assert source.name == "demo"
    assert [r.name for r in recordings] == [
        f"{singer}/phrase_00{index}.wav"
        for singer in ("alma_alto", "bruno_bass")
        for index in range(2)
    ]
    assert {r.speaker for r in recordings} == {"alma_alto", "bruno_bass"}
    info = soundfile.info(str(recordings[0].path))
    assert (info.samplerate, info.channels, info.subtype) == (44_100, 1, "PCM_16")
    assert yaml.safe_load((source.path / "demo.yaml").read_text()) == source.facts
    assert not (tmp_path / ".my demo.partial").exists()


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        small(tmp_path / name, seed=seed).recordings()
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a)


def test_made_once_and_remade_after_a_change(tmp_path: Path) -> None:
    path = tmp_path / "demo"
    first = small(path).recordings()
    made = [r.path.stat().st_mtime_ns for r in first]
    assert [r.path.stat().st_mtime_ns for r in small(path).recordings()] == made
    more = small(path, minutes_per_singer=0.1).recordings()
    assert len(more) == 6
    fewer = small(path).recordings()
    assert len([f for f in contents(path) if f.endswith(".wav")]) == len(fewer) == 4
    whole = contents(path)
    fewer[0].path.unlink()
    small(path).recordings()
    assert contents(path) == whole


def test_a_killed_generation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(tmp_path / "whole").recordings()
    path = tmp_path / "killed"
    written = []

    class KilledError(BaseException):
        pass

    def write_three(file: Path, audio: torch.Tensor) -> None:
        if len(written) == 3:
            # What a kill in the middle of a file leaves behind.
            (file.parent / ".phrase_001.wav.0.tmp").write_bytes(b"RIFF")
            raise KilledError
        written.append(file)
        write_audio(file, audio)

    write_audio = source_module.write_audio
    monkeypatch.setattr(source_module, "write_audio", write_three)
    with pytest.raises(KilledError):
        small(path).recordings()
    assert not path.exists()
    kept = [file.stat().st_mtime_ns for file in written]
    monkeypatch.undo()
    steps: list[tuple[int, int]] = []
    source = small(path)
    source._progress = lambda done, total: steps.append((done, total))
    source.recordings()
    assert steps == [(4, 4)]
    assert contents(path) == contents(tmp_path / "whole")
    assert [(path / f.relative_to(f.parents[1])).stat().st_mtime_ns for f in written] == kept


def test_shards_that_start_together_make_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "demo", []
    everybody = threading.Barrier(2)
    real_complete, real_make = DemoSource._complete, DemoSource._make

    def complete(self: DemoSource, names: Any) -> bool:
        found = real_complete(self, names)
        if not found and not made:
            with suppress(threading.BrokenBarrierError):
                everybody.wait(timeout=60)  # both have seen that it is missing
            everybody.abort()
        return found

    def make(self: DemoSource, names: Any) -> None:
        made.append(threading.get_ident())
        real_make(self, names)

    monkeypatch.setattr(DemoSource, "_complete", complete)
    monkeypatch.setattr(DemoSource, "_make", make)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: small(path).recordings(), range(2)))
    assert len(made) == 1
    assert found[0] == found[1]
    assert [file.name for file in tmp_path.iterdir()] == ["demo"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "my_song.wav").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"my_song\.wav"):
        small(tmp_path).recordings()
    assert contents(tmp_path) == {"my_song.wav": b"precious"}
    with pytest.raises(UserError, match="is a file"):
        small(tmp_path / "my_song.wav").recordings()


def test_all_wrong_settings_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserErrors) as caught:
        DemoSource(
            tmp_path,
            seed=-1,
            singers=9,
            minutes_per_singer=0.0,
            phrase_s=(5.0, 3.0),
            shared_share=2.0,
        )
    assert len(caught.value.faults) == 5


def test_held_out_phrases_are_reproducible_and_not_in_the_training_set() -> None:
    first, again, other = (
        held_out(0, index, "theo_tenor", "alma_alto", -1.5, phrase_s=(2.0, 3.0))
        for index in (0, 0, 1)
    )
    assert torch.equal(first.source, again.source)
    assert torch.equal(first.truth, again.truth)
    assert first.semitones == -1.5
    assert other.source.shape != first.source.shape
    for share in (0.0, 1.0):
        trained = training_phrase(
            0, 0, singer_by_name("theo_tenor"), phrase_s=(2.0, 3.0), shared_share=share
        )
        assert trained.audio.shape != first.source.shape
    with pytest.raises(UserError, match="theo_tenor"):
        held_out(0, 0, "nobody")


def test_half_of_the_scores_are_shared() -> None:
    lengths = [
        [len(training_phrase(4, index, s, phrase_s=(2.0, 4.0)).audio) for index in range(4)]
        for s in SINGERS[:2]
    ]
    assert [a == b for a, b in zip(*lengths, strict=True)] == [False, True, False, True]
