"""Reading and writing audio files: formats, rates, channels, and every kind of bad file."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bad_audio import EXPECTED_FAULTS, tone, write_bad_audio_corpus
from svc.audio import io
from svc.audio.io import (
    AudioFileError,
    find_audio_files,
    iter_audio,
    probe,
    read_audio,
    write_audio,
)
from svc.errors import UserError

RATE_HZ = 44_100


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_bad_audio_corpus(tmp_path_factory.mktemp("bad audio"))


def sine(frequency_hz: float, rate_hz: int, seconds: float = 1.0) -> np.ndarray:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * frequency_hz * time_s)


def measured_sine(audio: torch.Tensor, rate_hz: int) -> tuple[float, float]:
    """Frequency in Hz and amplitude of a sine, away from the ends."""
    middle = audio[len(audio) // 8 : -len(audio) // 8].double().numpy()
    window = np.hanning(len(middle))
    spectrum = np.abs(np.fft.rfft(middle * window, 8 * len(middle)))
    peak = int(spectrum.argmax())
    return peak * rate_hz / (8 * len(middle)), 2 * spectrum[peak] / window.sum()


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        (".wav", "PCM_U8", 1 / 127),
        (".wav", "PCM_16", 1 / 32_000),
        (".wav", "PCM_24", 1e-6),
        (".wav", "PCM_32", 1e-7),
        (".wav", "FLOAT", 0),
        (".wav", "DOUBLE", 1e-7),
        (".flac", "PCM_16", 1 / 32_000),
        (".flac", "PCM_24", 1e-6),
        (".aiff", "PCM_16", 1 / 32_000),
        (".au", "PCM_16", 1 / 32_000),
        (".caf", "PCM_24", 1e-6),
        (".w64", "PCM_16", 1 / 32_000),
        (".ogg", "VORBIS", 0.1),
        (".mp3", "MPEG_LAYER_III", 0.1),
    ],
)
def test_reads_every_format(tmp_path: Path, suffix: str, subtype: str, tolerance: float) -> None:
    samples = tone(1.0)
    path = tmp_path / f"x{suffix}"
    soundfile.write(path, samples, RATE_HZ, subtype=subtype)
    audio = read_audio(path)
    assert audio.dtype == torch.float32
    assert audio.shape == (RATE_HZ,)
    assert np.abs(audio.numpy() - samples).max() <= tolerance


def test_reads_opus(tmp_path: Path) -> None:
    path = tmp_path / "x.opus"
    soundfile.write(path, sine(440, 48_000), 48_000, format="OGG", subtype="OPUS")
    audio = read_audio(path)
    assert audio.shape == (RATE_HZ,)
    frequency_hz, amplitude = measured_sine(audio, RATE_HZ)
    assert frequency_hz == pytest.approx(440, abs=0.5)
    assert amplitude == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    "rate_hz",
    [8_000, 11_025, 16_000, 22_050, 32_000, 37_123, 44_100, 48_000, 88_200, 96_000, 192_000],
)
def test_resampling_keeps_frequency_level_and_length(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, sine(1_000, rate_hz), rate_hz, subtype="FLOAT")
    audio = read_audio(path)
    assert audio.shape == (RATE_HZ,)
    frequency_hz, amplitude = measured_sine(audio, RATE_HZ)
    assert frequency_hz == pytest.approx(1_000, abs=0.1)
    assert amplitude == pytest.approx(0.5, rel=1e-3)
    # No delay: the sine stays in phase to far less than a sample.
    expected = sine(1_000, RATE_HZ)
    assert np.abs(audio.numpy() - expected)[2_000:-2_000].max() < 1e-4


def test_resampling_removes_what_would_alias(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, sine(30_000, 96_000) + 1e-3, 96_000, subtype="FLOAT")
    assert read_audio(path)[2_000:-2_000].std() < 1e-5


@pytest.mark.parametrize("frames", [700, 44_099, 44_101, 70_001])
@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 16_000])
@pytest.mark.parametrize("target_hz", [44_100, 16_000])
def test_sample_count_is_exact(tmp_path: Path, frames: int, rate_hz: int, target_hz: int) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, 0.1 * np.ones(frames), rate_hz)
    assert len(read_audio(path, target_hz)) == round(frames * target_hz / rate_hz)


def test_float_peaks_over_full_scale_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, 3 * tone(0.5), RATE_HZ, subtype="FLOAT")
    assert torch.equal(read_audio(path), torch.from_numpy(3 * tone(0.5)))


def test_takes_the_mean_of_all_channels(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    channels = np.stack([tone(0.5, seed=seed) for seed in range(7)], axis=1)
    soundfile.write(path, channels, RATE_HZ, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path).numpy(), channels.mean(axis=1), atol=1e-6)
    assert probe(path).channels == 7


def test_equal_channels_keep_their_level(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([tone(0.5)] * 2, axis=1), RATE_HZ, subtype="FLOAT")
    assert torch.equal(read_audio(path), torch.from_numpy(tone(0.5)))


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_cancelling_channels_give_the_loudest_one(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "x.wav"
    left = tone(1.0, rate_hz)
    soundfile.write(path, np.stack([-0.99 * left, left], axis=1), rate_hz, subtype="FLOAT")
    alone = tmp_path / "left.wav"
    soundfile.write(alone, left, rate_hz, subtype="FLOAT")
    assert torch.equal(read_audio(path), read_audio(alone))
    assert torch.equal(torch.cat(list(iter_audio(path, block_s=0.3))), read_audio(alone))


def test_barely_surviving_channels_are_still_averaged(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    left = tone(0.5)
    soundfile.write(path, np.stack([left, -0.8 * left], axis=1), RATE_HZ, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path).numpy(), 0.1 * left, atol=1e-6)


@pytest.mark.parametrize("name", ["two words.wav", "Ünïcödé — 歌声 🎤.wav", "a'b\"c%20#.wav"])
def test_paths_may_hold_anything(tmp_path: Path, name: str) -> None:
    path = tmp_path / "ordner mit Größe" / name
    assert write_audio(path, torch.from_numpy(tone(0.2))) == 0
    assert len(read_audio(path)) == len(read_audio(str(path))) == 8_820
    assert find_audio_files(tmp_path) == [path]


def test_probe_reads_the_header(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, np.stack([tone(1.5, 48_000)] * 2, axis=1), 48_000, subtype="PCM_24")
    info = probe(path)
    assert (info.path, info.sample_rate_hz, info.channels) == (path, 48_000, 2)
    assert (info.duration_s, info.format, info.subtype) == (1.5, "FLAC", "PCM_24")


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
@pytest.mark.parametrize("block_s", [0.013, 0.5, 1.0, 100.0])
def test_blocks_join_to_the_whole(tmp_path: Path, rate_hz: int, block_s: float) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(2.0, rate_hz), rate_hz, subtype="FLOAT")
    blocks = list(iter_audio(path, block_s=block_s))
    assert all(len(block) == round(block_s * RATE_HZ) for block in blocks[:-1])
    assert 0 < len(blocks[-1]) <= round(block_s * RATE_HZ)
    assert torch.equal(torch.cat(blocks), read_audio(path))


def test_blocks_of_less_than_a_sample_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="block_s"):
        next(iter_audio(tmp_path / "x.wav", block_s=1e-6))


# --- bad files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPECTED_FAULTS)
def test_every_bad_file_has_its_outcome(corpus: dict[str, Path], name: str) -> None:
    path = corpus[name]
    with pytest.raises(AudioFileError) as caught:
        read_audio(path)
    error = caught.value
    assert error.fault == EXPECTED_FAULTS[name]
    assert error.path == path
    assert str(error) == f"{path}: {error.reason}"
    assert "\n" not in error.reason
    assert isinstance(error, UserError)
    with pytest.raises(AudioFileError) as before_the_first_block:
        next(iter_audio(path))
    assert before_the_first_block.value.reason == error.reason


def test_corpus_is_complete(corpus: dict[str, Path]) -> None:
    assert corpus.keys() == EXPECTED_FAULTS.keys()


@pytest.mark.parametrize("name", [n for n in EXPECTED_FAULTS if n.startswith("truncated")])
def test_truncated_files_say_how_much_is_left(corpus: dict[str, Path], name: str) -> None:
    with pytest.raises(AudioFileError, match=r"truncated or damaged: \d+\.\d s") as caught:
        read_audio(corpus[name])
    # An Ogg stream does not say how long it should be.
    assert ("of 2.0 s" in caught.value.reason) == (probe_format(name) != "OGG")


def probe_format(name: str) -> str:
    return "OGG" if name.split()[-1] in ("ogg", "opus") else "other"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("truncated wav", "0.7 s of 2.0 s"),
        ("nan", "3 of 88200 values"),
        ("infinity", "1 of 88200 values"),
        ("shorter than a frame", "10.0 ms"),
        ("zeros", "every sample is 0"),
        ("4 kHz", "4000 Hz"),
        ("384 kHz", "384000 Hz"),
    ],
)
def test_reasons_hold_the_facts(corpus: dict[str, Path], name: str, words: str) -> None:
    with pytest.raises(AudioFileError) as caught:
        read_audio(corpus[name])
    assert words in caught.value.reason


def test_error_survives_a_process_boundary(corpus: dict[str, Path]) -> None:
    with pytest.raises(AudioFileError) as caught:
        probe(corpus["empty"])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.path, copy.fault, copy.reason) == (corpus["empty"], "empty", caught.value.reason)
    assert str(copy) == str(caught.value)


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF])
def test_wav_written_into_a_pipe_is_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(1.0), RATE_HZ)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", size)
    path.write_bytes(content)
    assert len(read_audio(path)) == RATE_HZ


def test_mp3_without_a_length_tag_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    # Variable rate: the quiet start costs little, so that the guess of the length is far too long.
    samples = np.concatenate([np.zeros(RATE_HZ, np.float32), tone(1.0)])
    soundfile.write(path, samples, RATE_HZ, bitrate_mode="VARIABLE", compression_level=0.5)
    content = path.read_bytes()
    assert b"Xing" in content[:64]
    second_frame = content.index(content[:2], 10)
    path.write_bytes(content[second_frame:])
    assert probe(path).duration_s > 2.2
    assert len(read_audio(path)) == pytest.approx(2 * RATE_HZ, abs=4 * 1152)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read anything")
def test_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(0.2), RATE_HZ)
    path.chmod(0)
    with pytest.raises(AudioFileError, match="permission"):
        read_audio(path)


def test_file_too_long_for_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(0.2), RATE_HZ)

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(io.np, "empty", no_memory)
    with pytest.raises(AudioFileError, match="do not fit into memory"):
        read_audio(path)


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("x.wav", "PCM_16", 1 / 32_000),
        ("x.wav", "PCM_24", 1e-6),
        ("x.wav", "FLOAT", 0),
        ("x.flac", "PCM_16", 1 / 32_000),
        ("X.FLAC", "PCM_24", 1e-6),
    ],
)
def test_what_is_written_is_read(
    tmp_path: Path, name: str, subtype: io.Subtype, tolerance: float
) -> None:
    audio = torch.from_numpy(tone(0.5))
    path = tmp_path / "new" / "folders" / name
    assert write_audio(path, audio[None], 32_000, subtype) == 0
    info = probe(path)
    assert (info.sample_rate_hz, info.subtype) == (32_000, subtype)
    assert (read_audio(path, 32_000) - audio).abs().max() <= tolerance
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_writing_limits_and_counts(tmp_path: Path) -> None:
    audio = torch.tensor([0.5, 1.5, -1.0, 1.0, -2.0]).repeat(200)
    for subtype in ("PCM_16", "FLOAT"):
        assert write_audio(tmp_path / "x.wav", audio, subtype=subtype) == 400
        assert (read_audio(tmp_path / "x.wav") - audio.clamp(-1, 1)).abs().max() < 1e-4


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.wav"
    write_audio(path, torch.from_numpy(tone(0.2)))
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(io.os, "replace", fail)
    with pytest.raises(UserError, match="no space left"):
        write_audio(path, torch.zeros(1000))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Cannot write"):
        write_audio(tmp_path / "file" / "x.wav", torch.zeros(1000))
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(UserError, match="Cannot write"):
        write_audio(tmp_path / "x.wav", torch.zeros(1000))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "x.wav"]


@pytest.mark.parametrize("name", ["x.mp3", "x", "x.ogg"])
def test_unknown_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"\.wav or \.flac"):
        write_audio(tmp_path / name, torch.zeros(1000))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "subtype"), [("x.flac", "FLOAT"), ("x.wav", "PCM_12")])
def test_unknown_subtypes_are_refused(tmp_path: Path, name: str, subtype: io.Subtype) -> None:
    with pytest.raises(UserError, match=f"subtype={subtype}.*PCM_24"):
        write_audio(tmp_path / name, torch.zeros(1000), subtype=subtype)


@pytest.mark.parametrize(
    "audio", [torch.zeros(2, 100), torch.zeros(1, 1, 100), torch.tensor([0.0, float("nan")])]
)
def test_writing_what_is_no_mono_audio_is_an_error(tmp_path: Path, audio: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="audio"):
        write_audio(tmp_path / "x.wav", audio)


# --- finding -------------------------------------------------------------------------------------


def test_finds_audio_files_in_order(tmp_path: Path) -> None:
    names = ["b/2.WAV", "b/10.flac", "a.mp3", "b/c d/é.ogg", "z.m4a"]
    for name in [*names, "notes.txt", ".hidden.wav", ".git/x.wav", "b/.x/y.wav", "cover.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path, target_is_directory=True)
    found = [str(path.relative_to(tmp_path)) for path in find_audio_files(tmp_path)]
    assert found == sorted(names, key=lambda name: Path(name).parts)


@pytest.mark.parametrize("name", ["nowhere", "x.wav"])
def test_finding_needs_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.wav").touch()
    with pytest.raises(UserError, match="folder of recordings"):
        find_audio_files(tmp_path / name)
