"""Every measure against material of which the truth is known."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soxr

from doctor.material import RATE_HZ, chords, examined, noise, save, sung
from svc.data.sources import FolderSource
from svc.doctor.frames import FRAME_S
from svc.doctor.measures import clipped_share, f0_range, tracker_disagreement
from svc.doctor.recordings import examine
from svc.doctor.verdict import diagnose, suspects_several_voices


@pytest.mark.parametrize(("from_hz", "reaches_hz"), [(16_000, 7_900), (22_050, 10_900)])
def test_upsampled_material_is_named_with_its_true_bandwidth(
    from_hz: int, reaches_hz: float, tmp_path: Path
) -> None:
    low = soxr.resample(sung(), RATE_HZ, from_hz)
    file = examined(tmp_path / "up.wav", soxr.resample(low, from_hz, RATE_HZ))
    assert file.sample_rate_hz == RATE_HZ
    assert file.bandwidth.bandwidth_hz == pytest.approx(reaches_hz, abs=600)
    assert file.bandwidth.cut_off


def test_a_full_recording_is_not_taken_for_an_upsampled_one(tmp_path: Path) -> None:
    audio = sung()
    file = examined(tmp_path / "full.wav", audio + noise(len(audio), -60))
    assert not file.bandwidth.cut_off
    assert examined(tmp_path / "dry.wav", audio).bandwidth.bandwidth_hz > 18_000


@pytest.mark.parametrize("gain", [1.0, 0.4])
@pytest.mark.parametrize("wanted", [1e-3, 2e-2])
def test_the_share_of_clipped_samples_is_found(wanted: float, gain: float, tmp_path: Path) -> None:
    """Also of a recording that was turned down after it had been clipped."""
    audio = sung()
    limit = np.quantile(np.abs(audio), 1 - wanted)
    share, peak_db = clipped_share(
        save(tmp_path / "c.wav", gain * np.clip(audio / limit, -1, 32767 / 32768))
    )
    assert share == pytest.approx(wanted, rel=0.25)
    assert peak_db == pytest.approx(20 * np.log10(gain), abs=0.01)


def test_clean_and_low_notes_are_not_clipped(tmp_path: Path) -> None:
    times_s = np.arange(RATE_HZ) / RATE_HZ
    assert clipped_share(save(tmp_path / "sung.wav", sung()))[0] == 0
    low = 0.5 * np.sin(2 * np.pi * 100 * times_s)
    assert clipped_share(save(tmp_path / "low.wav", low))[0] < 1e-5


@pytest.mark.parametrize("level_db", [-70, -50, -40])
def test_the_noise_floor_is_found_to_a_decibel(level_db: float, tmp_path: Path) -> None:
    audio = sung()
    file = examined(tmp_path / "n.wav", audio + noise(len(audio), level_db))
    assert file.noise_floor_db == pytest.approx(level_db, abs=1)
    loud = audio[np.abs(audio) > 0.01]
    assert file.level_db == pytest.approx(20 * np.log10(np.sqrt(np.mean(loud**2))), abs=3)


def test_without_a_pause_the_noise_floor_is_unknown(tmp_path: Path) -> None:
    times_s = np.arange(3 * RATE_HZ) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * 220 * k * times_s) / k for k in range(1, 20))
    assert examined(tmp_path / "tone.wav", 0.2 * tone).noise_floor_db is None


@pytest.mark.parametrize("singer", range(3))
def test_a_second_voice_and_music_are_suspected_and_a_single_voice_is_not(
    singer: int, tmp_path: Path
) -> None:
    voice, other = sung(singer, 1), sung((singer + 1) % 3, 2)
    size = min(len(voice), len(other))
    both = 0.6 * (voice[:size] + other[:size])
    music = 0.6 * (voice + chords(len(voice), voice, -6))
    assert not suspects_several_voices(examined(tmp_path / "solo.wav", voice))
    assert not suspects_several_voices(
        examined(tmp_path / "noisy.wav", voice + noise(len(voice), -45))
    )
    assert suspects_several_voices(examined(tmp_path / "both.wav", both))
    assert suspects_several_voices(examined(tmp_path / "music.wav", music))


def test_the_share_of_silence_is_found(tmp_path: Path) -> None:
    times_s = np.arange(3 * RATE_HZ) / RATE_HZ
    tone = 0.2 * np.sin(2 * np.pi * 220 * times_s)
    audio = np.concatenate([tone, noise(9 * RATE_HZ, -80)])
    assert examined(tmp_path / "s.wav", audio).silence_share == pytest.approx(0.75, abs=0.01)


def test_f0_is_counted_in_semitones() -> None:
    f0_hz = np.repeat([0.0, 110.0, 220.0, 440.0], [10, 10, 20, 10])
    found = f0_range(f0_hz)
    assert (found.low_hz, found.median_hz, found.high_hz) == (110.0, 220.0, 440.0)
    assert found.voiced_share == 0.8
    at = {45 - 31: 10, 57 - 31: 20, 69 - 31: 10}
    assert {i: n for i, n in enumerate(found.histogram) if n} == at
    nothing = f0_range(np.zeros(5))
    assert nothing.median_hz == 0
    assert sum(nothing.histogram) == 0


def test_trackers_disagree_where_they_differ_by_a_quarter_tone() -> None:
    one = np.array([0.0, 100.0, 100.0, 100.0, 100.0])
    other = np.array([500.0, 100.0, 102.0, 104.0, 200.0])  # 0, 34, 68, 1200 cents
    assert tracker_disagreement(one, other) == 0.5
    assert tracker_disagreement(np.zeros(3), np.ones(3)) is None


def test_a_sine_is_tracked_alike_by_both_trackers(tmp_path: Path) -> None:
    times_s = np.arange(3 * RATE_HZ) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * 196 * k * times_s) / k**2 for k in range(1, 20))
    file = examined(tmp_path / "tone.wav", 0.3 * tone)
    assert file.disagreement == pytest.approx(0, abs=0.02)
    assert file.f0.median_hz == pytest.approx(196, abs=0.5)
    assert sum(file.f0.histogram) * FRAME_S == pytest.approx(3, abs=0.1)


@pytest.mark.slow
def test_real_voices_have_the_bandwidth_that_the_manifest_says(shared: Path) -> None:
    """Figures of docs/doctor.md. The manifest gives one value per speaker."""
    with (shared / "data" / "manifest.csv").open(newline="") as file:
        wanted_hz = {
            line["path"].partition("/")[2]: float(line["bandwidth_hz"])
            for line in csv.DictReader(file)
        }
    for folder in ("train", "sources"):
        source = FolderSource(shared / "data" / folder)
        diagnosis = diagnose(examine(source.name, source.recordings(), 1))
        files = diagnosis.examination.files
        assert not diagnosis.examination.unusable
        off = [
            abs(file.bandwidth.bandwidth_hz / wanted_hz[file.recording.name] - 1) for file in files
        ]
        assert np.mean(np.array(off) < 0.2) > 0.7
        cut = {file.recording.speaker for file in files if file.bandwidth.cut_off}
        assert cut == ({"gc_en", "gc_gd"} if folder == "train" else {"gc_es", *VOCADITO})
        assert not [f for f in diagnosis.findings if f.kind in ("several voices", "clipped")]
        assert len(diagnosis.examination.duplicates) == (3 if folder == "train" else 0)


VOCADITO = {"vocadito_10", "vocadito_14"}
