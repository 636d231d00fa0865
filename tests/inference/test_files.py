"""Files and folders in, files and folders out."""

import sys
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from svc.audio.io import probe, read_audio, write_audio
from svc.audio.spec import AudioSpec
from svc.errors import UserError, UserErrors
from svc.inference.files import ConversionReport, convert_files
from svc.inference.speaker_mixing import Voice, resolve_voice


class Louder:
    """Stands in for the converter: doubles the amplitude."""

    spec = AudioSpec()

    def voice(self, speaker: str | Voice | None) -> Voice:
        return resolve_voice(speaker, ["anna"])

    def convert(self, audio: Tensor, sample_rate_hz: int, **settings: object) -> Tensor:
        assert sample_rate_hz == 44_100
        settings["progress"](1.0)  # type: ignore[operator]
        return 2 * audio


@pytest.fixture
def recording() -> Tensor:
    return 0.1 * torch.sin(torch.arange(20_000) * 0.03)


@pytest.fixture
def folder(tmp_path: Path, recording: Tensor) -> Path:
    folder = tmp_path / "my songs"
    write_audio(folder / "ä one.wav", recording)
    write_audio(folder / "album" / "two.flac", recording)
    write_audio(folder / "album" / "two.wav", recording, 48_000)
    return folder


def convert(input_path: Path, output_path: Path | None, **settings: object) -> ConversionReport:
    quiet = Console(file=StringIO())
    return convert_files(Louder(), input_path, output_path, console=quiet, **settings)  # type: ignore[arg-type]


def test_a_file_to_a_file(folder: Path, tmp_path: Path, recording: Tensor) -> None:
    output = tmp_path / "new" / "out.flac"
    report = convert(folder / "ä one.wav", output, subtype="PCM_24")
    assert [file.output for file in report.converted] == [output]
    assert probe(output).subtype == "PCM_24"
    assert probe(output).sample_rate_hz == 44_100
    torch.testing.assert_close(read_audio(output), 2 * recording, atol=1e-4, rtol=0)
    assert "Converted 1 file: 0.5 s of audio" in report.summary()


def test_a_folder_keeps_its_names_and_subfolders(folder: Path, tmp_path: Path) -> None:
    report = convert(folder, tmp_path / "out")
    names = sorted(str(file.output.relative_to(tmp_path / "out")) for file in report.converted)
    # Two recordings that differ by suffix alone stay two.
    assert names == ["album/two.flac.wav", "album/two.wav.wav", "ä one.wav"]
    assert all(file.output.is_file() for file in report.converted)


def test_bad_files_do_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.wav").write_bytes(b"")
    write_audio(folder / "silent.wav", torch.zeros(9000))
    report = convert(folder, tmp_path / "out")
    assert len(report.converted) == 3
    assert [file.source.name for file in report.skipped] == ["bad.wav", "silent.wav"]
    assert "bad.wav: " in report.summary()
    assert "silent" in report.skipped[1].reason


def test_nothing_converted_is_an_error_that_names_every_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(23):
        (tmp_path / "in" / f"{index:02}.wav").write_bytes(b"no audio")
    with pytest.raises(UserErrors, match="nothing was converted") as caught:
        convert(tmp_path / "in", tmp_path / "out")
    assert len(caught.value.faults) == 21
    assert caught.value.faults[-1] == "and 3 more"
    assert not (tmp_path / "out").exists()


def test_existing_outputs(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "out")
    (tmp_path / "out" / "ä one.wav").unlink()
    report = convert(folder, tmp_path / "out", overwrite=False)
    assert [file.source.name for file in report.converted] == ["ä one.wav"]
    assert all("overwrite=true" in file.reason for file in report.skipped)
    assert len(convert(folder, tmp_path / "out").converted) == 3


def test_outputs_inside_the_input_are_not_converted_again(folder: Path) -> None:
    for _ in range(2):
        assert len(convert(folder, folder / "out").converted) == 3


class TestRefusals:
    def test_replacing_the_input(self, folder: Path) -> None:
        before = (folder / "ä one.wav").read_bytes()
        with pytest.raises(UserError, match="would replace the recording"):
            convert(folder / "ä one.wav", folder / "ä one.wav")
        with pytest.raises(UserError, match="would replace the recording"):
            convert(folder, folder)
        assert (folder / "ä one.wav").read_bytes() == before

    @pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
    def test_replacing_the_input_through_a_link(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "link.wav").symlink_to(folder / "ä one.wav")
        with pytest.raises(UserError, match="would replace"):
            convert(folder / "ä one.wav", tmp_path / "link.wav")

    @pytest.mark.parametrize(
        ("subtype", "output", "working"),
        [
            ("PCM_20", "out.wav", "PCM_16, PCM_24, FLOAT"),
            ("FLOAT", "out.flac", "PCM_16, PCM_24"),
        ],
    )
    def test_a_subtype_that_cannot_be_written_before_any_work(
        self,
        folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        subtype: str,
        output: str,
        working: str,
    ) -> None:
        monkeypatch.setattr(Louder, "convert", None)  # would fail with a TypeError
        with pytest.raises(UserError, match=f"subtype={subtype}: choose one of {working}\\."):
            convert(folder / "ä one.wav", tmp_path / output, subtype=subtype)

    def test_wrong_settings_are_told_once(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="speaker=zoe"):
            convert(folder, tmp_path / "out", speaker="zoe")
        with pytest.raises(UserError, match="pitch_shift=99") as caught:
            convert(folder, tmp_path / "out", pitch_shift_semitones=99)
        assert str(caught.value).count("pitch_shift") == 1
