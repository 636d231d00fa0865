"""Files that are made to run something, or to fill the memory, are refused by every reader."""

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from svc.checkpoints import import_checkpoint
from svc.checkpoints.model_file import read_model_file
from svc.checkpoints.published import read_published
from svc.checkpoints.safe_reading import read_state_dict
from svc.errors import UserError

READERS: dict[str, Callable[[Path], Any]] = {
    "read_state_dict": read_state_dict,
    "read_published": read_published,
    "read_model_file": read_model_file,
    "import_checkpoint": import_checkpoint,
}


@pytest.fixture(params=list(READERS))
def read(request: pytest.FixtureRequest) -> Callable[[Path], Any]:
    return READERS[request.param]


def assert_refused(read: Callable[[Path], Any], path: Path) -> str:
    before = sorted(p.name for p in path.parent.iterdir())
    with pytest.raises(UserError, match=path.name) as caught:
        read(path)
    assert sorted(p.name for p in path.parent.iterdir()) == before
    return str(caught.value)


def zipped(path: Path, entries: dict[str, bytes], *, compressed: bool = False) -> Path:
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return path


@pytest.mark.parametrize("place", ["data.pkl", "data/0", "version"])
def test_entries_that_explode_are_not_unpacked(
    place: str, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    whole = tmp_path / "whole.pt"
    torch.save({"conv_pre.weight": torch.ones(3)}, whole)
    with zipfile.ZipFile(whole) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    whole.unlink()
    entries[place] = entries.get(place, b"") + bytes(1 << 24)
    path = zipped(tmp_path / "bomb.pt", entries, compressed=True)
    assert path.stat().st_size < 1 << 20
    assert "unpack" in assert_refused(read, path)


def test_entries_that_share_their_bytes_are_not_unpacked(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    """A directory may name one place a thousand times."""
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 16))
        entry = archive.infolist()[0]
        for index in range(1000):
            copy = zipfile.ZipInfo(f"archive/data/{index}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copy, name, getattr(entry, name))
            archive.filelist.append(copy)
    assert "unpack" in assert_refused(read, path)


PICKLES = {
    "memo": b"\x80\x02N" + b"r" + struct.pack("<I", 0x03FFFFFF) + b".",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"abc.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    "number": b"\x80\x02\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"abc.",
    "nested lists": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
    "reduce": b"cos\nmkdir\n(S'made'\ntR.",
    "inst": b"(S'made'\nios\nmkdir\n.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c\x04made\x85R.",
    "build": b"\x80\x02cos\npath\n}X\x05\x00\x00\x00isdirNsb.",
    "pickle inside": b"\x80\x03cpickle\nloads\nC\x19cos\nmkdir\n(S'made'\ntR.....\x85R.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_that_ask_for_much_or_call_something(
    name: str, read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    is_directory = os.path.isdir
    entries = {"data.pkl": PICKLES[name], "version": b"3\n", "byteorder": b"little"}
    said = assert_refused(read, zipped(tmp_path / "hostile.pt", entries))
    (tmp_path / "hostile.bin").write_bytes(PICKLES[name] + b"\0" * 8)
    said += assert_refused(read, tmp_path / "hostile.bin")
    assert name != "memo" or said.count("of its memo is named out of turn") == 2
    assert not (tmp_path / "made").exists()
    assert os.path.isdir is is_directory


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(1 << 20, 1 << 20),
        torch.zeros(1 << 17).as_strided((1 << 15, 1 << 15, 64), (1, 1, 1)),
    ],
    ids=["one number", "overlapping rows"],
)
def test_tensors_that_repeat_their_numbers_do_not_fill_the_memory(
    tensor: torch.Tensor, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "bomb.pt"
    torch.save({"state_dict": {"generator.conv_pre.weight": tensor}}, path)
    assert "fill the memory" in assert_refused(read, path)


def test_many_names_for_one_storage_do_not_fill_the_memory(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    numbers = torch.zeros(1 << 20)
    path = tmp_path / "bomb.pt"
    torch.save({f"weight.{index}": numbers for index in range(1000)}, path)
    assert "fill the memory" in assert_refused(read, path)


def test_a_checkpoint_that_looks_like_ours_does_not_either(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    svc = {"facts": None, "progress": {}, "scalers": {}}
    weights = {"generator.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}
    torch.save({"svc": svc, "state_dict": weights}, path)
    assert "fill the memory" in assert_refused(read_model_file, path)


def test_repeated_numbers_of_a_real_size_stay_repeated(shared: Path) -> None:
    """The golden HiFiSinger has 350 MB of discriminators in a few bytes."""
    weights = read_state_dict(shared / "golden" / "hifisinger_v1_small.pt")
    judges = [weight for name, weight in weights.items() if name.startswith(("mpd.", "msd."))]
    assert sum(weight.numel() for weight in judges) * 4 > 300e6
    assert sum(weight.untyped_storage().nbytes() for weight in judges) < 1e6


def test_the_configuration_beside_weights_is_copied_to_a_limit(tmp_path: Path) -> None:
    """Lists that hold each other would be endless written out."""
    from svc.checkpoints.safe_reading import read_published_file

    layers: Any = ["deep"]
    for _ in range(40):
        layers = [layers, layers]
    path = tmp_path / "weights.pt"
    weights = {"weight": torch.ones(2)}
    torch.save({"state_dict": weights, "config": {"first": 1, "bomb": layers}}, path)
    assert read_published_file(path).config["first"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "nothing"),
        (b"{}\n", "text"),
        (b"<!DOCTYPE html><title>404</title>", "<!DOCTYPE html>"),
        (b"PK\x03\x04", "cut short|damaged"),
        (bytes(100), "cut short|damaged"),
        (b"\xff" * 100, "cut short|damaged"),
    ],
)
def test_what_is_no_file_of_weights(
    content: bytes, said: str, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "weights.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_files_cut_short_anywhere_are_refused(
    form: str, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "weights.ckpt"
    weights = {f"layer.{i}.weight": torch.ones(40) for i in range(4)}
    torch.save({"state_dict": weights}, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        assert_refused(read, path)
