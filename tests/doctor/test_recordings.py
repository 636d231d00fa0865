"""A folder of good and bad recordings: everything is told of, nothing stops."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bad_audio import EXPECTED_FAULTS, write_bad_audio_corpus
from doctor.material import RATE_HZ, noise, save, sung
from svc.data.sources import FolderSource
from svc.doctor.recordings import Examination, examine
from svc.doctor.report import write_page
from svc.doctor.verdict import diagnose


def examined_folder(folder: Path, workers: int = 1) -> Examination:
    source = FolderSource(folder)
    return examine(source.name, source.recordings(), workers)


def test_bad_files_are_named_with_reasons_and_stop_nothing(tmp_path: Path) -> None:
    paths = write_bad_audio_corpus(tmp_path)
    save(tmp_path / "good.wav", sung(seconds=3.0))
    save(tmp_path / "word.wav", sung(seconds=3.0)[:10_000])
    seen: list[tuple[int, int]] = []
    source = FolderSource(tmp_path)
    found = examine(source.name, source.recordings(), 1, lambda done, of: seen.append((done, of)))
    assert [file.recording.name for file in found.files] == ["good.wav"]
    assert {file.name for file in found.too_short} == {"word.wav", "shorter than a frame.wav"}
    bad = {path.name for path in paths.values() if path.is_file() and path.suffix != ".raw"}
    assert {file.name for file in found.unusable} == bad - {"shorter than a frame.wav"}
    assert len(bad) > len(EXPECTED_FAULTS) - 4
    assert all(file.reason for file in found.unusable)
    assert seen[-1] == (len(bad) + 2, len(bad) + 2)


@pytest.mark.parametrize(
    "audio",
    [
        np.full(RATE_HZ, 0.3),
        np.sign(np.sin(2 * np.pi * 200 * np.arange(RATE_HZ) / RATE_HZ)),
        noise(RATE_HZ, -20),
        np.concatenate([np.zeros(RATE_HZ), [0.5], np.zeros(RATE_HZ)]),
        noise(RATE_HZ // 2 + 1, -70),
    ],
    ids=["dc", "square wave", "noise", "click", "half a second"],
)
def test_strange_signals_are_measured_without_a_fault(audio: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "strange.wav", audio)
    found = examined_folder(tmp_path)
    assert found.unusable == ()
    assert len(found.files) == 1
    page = write_page(tmp_path / "page", diagnose(found))
    assert "NaN" not in (page.parent / "metrics.json").read_text()


def test_stereo_and_other_rates_are_measured_as_well(tmp_path: Path) -> None:
    voice = sung(seconds=3.0)
    soundfile.write(tmp_path / "a.wav", np.stack([voice, voice], axis=1), RATE_HZ)
    soundfile.write(tmp_path / "b.wav", voice[::4], RATE_HZ // 4)
    stereo, low = examined_folder(tmp_path).files
    assert (stereo.channels, low.sample_rate_hz) == (2, 11_025)
    assert low.bandwidth.bandwidth_hz < 6_000


@pytest.mark.slow
def test_processes_find_the_same_as_one(tmp_path: Path) -> None:
    for index in range(4):
        save(tmp_path / f"{index}.wav", sung(index % 2, index, 3.0))
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    alone, together = (diagnose(examined_folder(tmp_path, workers)) for workers in (1, 2))
    assert alone.findings == together.findings
    assert alone.speakers == together.speakers


def test_the_page_begins_with_the_verdict_and_needs_no_picture_beside_it(tmp_path: Path) -> None:
    clipped = np.clip(8 * sung(), -0.9, 0.9)
    for folder, name, audio in [
        ("anna", "a <b>.wav", clipped),
        ("anna", "b.wav", sung(index=1)),
        ("bela", "c.wav", sung(1)),
        ("bela", "again.wav", sung(1)),
    ]:
        save(tmp_path / "songs" / folder / name, audio)
    (tmp_path / "songs" / "anna" / "text.wav").write_text("no audio")
    page = write_page(tmp_path / "page", diagnose(examined_folder(tmp_path / "songs")))
    html = page.read_text(encoding="utf-8")
    assert "<h1>songs: fix these first</h1>" in html
    assert html.index("Clipped") < html.index("Speakers") < html.index("Recordings</h2>")
    assert "a &lt;b&gt;.wav" in html
    assert "a <b>.wav" not in html
    assert html.count('src="data:image/png;base64,') == 2
    players = re.findall(r'<audio[^>]* src="([^"]+)"', html)
    assert any("clipped" in player for player in players)
    for player in players:
        info = soundfile.info(page.parent / player)
        assert 0.5 < info.duration <= 4.0
    assert not list(page.parent.glob("*.png"))
    said = json.loads((page.parent / "metrics.json").read_text(encoding="utf-8"))
    assert said["verdict"] == "fix these first"
    assert said["duplicates"] == [
        {"file": "bela/c.wav", "same_as": "bela/again.wav", "exact": True}
    ]
    assert {file["name"] for file in said["unusable"]} == {"anna/text.wav"}
    assert [speaker["speaker"] for speaker in said["speakers"]] == ["anna", "bela"]
    assert len(said["files"]) == 4
