"""The reader of wandb's offline files: records in one chunk, over several blocks, and cut short."""

import struct
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from svc.training.wandb_record import is_whole, read_records

BLOCK = 32_768


def written(records: list[bytes]) -> bytes:
    """A file of records as LevelDB's log describes it; checksums are not looked at."""
    content = b":W&B\x1e\xbb\x00"
    for record in records:
        begun = False
        while True:
            left = BLOCK - len(content) % BLOCK
            if left < 7:
                content += bytes(left)
                left = BLOCK
            piece, record = record[: left - 7], record[left - 7 :]
            kind = (3 if record else 4) if begun else (2 if record else 1)
            content += struct.pack("<IHB", 0, len(piece), kind) + piece
            begun = True
            if not record:
                break
    return content


def output(text: str) -> Record:
    record = Record()
    record.output_raw.line = text
    return record


def end() -> Record:
    record = Record()
    record.exit.exit_code = 0
    return record


RUN = [output("short"), output("x" * 3 * BLOCK), *(output(f"{i:5}") for i in range(20_000)), end()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run-1.wandb"
    path.write_bytes(written([record.SerializeToString() for record in RUN]))
    return path


def test_records_of_any_length_are_read(file: Path) -> None:
    assert file.stat().st_size > 8 * BLOCK
    assert list(read_records(file)) == RUN
    assert is_whole(file)


def test_from_a_later_block_on(file: Path) -> None:
    late = list(read_records(file, first_block=6))
    assert 0 < len(late) < len(RUN) - 2
    assert late == RUN[-len(late) :]
    within_the_long_one = list(read_records(file, first_block=1))
    assert within_the_long_one == RUN[2:]


@pytest.mark.parametrize("missing", [1, 3, 10, 2 * BLOCK])
def test_a_file_that_is_still_being_written(file: Path, missing: int) -> None:
    file.write_bytes(file.read_bytes()[:-missing])
    assert not is_whole(file)
    read = list(read_records(file))
    assert read == RUN[: len(read)]
    assert 2 < len(read) < len(RUN)


@pytest.mark.parametrize("size", [0, 4, 7, 12])
def test_hardly_begun(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])
    assert list(read_records(file)) == []
    assert not is_whole(file)
