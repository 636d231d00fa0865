"""Reads what an offline run of wandb has written: the file run-*.wandb in its folder.

The format is LevelDB's log (google/leveldb, doc/log_format.md) behind a header of seven bytes, with
a protocol buffer `Record` of wandb in every record.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEADER_BYTES = 7
_BLOCK_BYTES = 32_768
_CHUNK = struct.Struct("<IHB")
"""Checksum, length and type that stand before the data of each chunk."""
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

_LAST_BLOCKS = 4
"""Where the record that ends a run is looked for; few and short ones follow it."""


def read_records(path: Path, first_block: int = 0) -> Iterator[Any]:
    """Every whole `wandb_internal_pb2.Record` in a file; one that is still being written ends it.

    Args:
        path: of a run-*.wandb file.
        first_block: where to begin, in blocks of 32 KiB; a record that began before is left out.
    """
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2  # makes its classes when it is imported
    for data in _records(path.read_bytes(), first_block):
        record = messages.Record()
        record.ParseFromString(data)
        yield record


def is_whole(path: Path) -> bool:
    """Whether the end of the run is in the file, and with it everything before."""
    blocks = -(-path.stat().st_size // _BLOCK_BYTES)
    records = read_records(path, max(0, blocks - _LAST_BLOCKS))
    return any(record.WhichOneof("record_type") == "exit" for record in records)


def _records(content: bytes, first_block: int) -> Iterator[bytes]:
    """The records that whole chunks make up."""
    begun: bytes | None = None
    for kind, data in _chunks(content, max(first_block * _BLOCK_BYTES, _HEADER_BYTES)):
        if kind == _FULL:
            yield data
        elif kind == _FIRST:
            begun = data
        elif begun is not None and kind in (_MIDDLE, _LAST):
            begun += data
            if kind == _LAST:
                yield begun
                begun = None


def _chunks(content: bytes, place: int) -> Iterator[tuple[int, bytes]]:
    """(type, data) of every chunk; the end of a block that is too short for one is padding."""
    while True:
        left = _BLOCK_BYTES - place % _BLOCK_BYTES
        if left < _CHUNK.size:
            place += left
        if place + _CHUNK.size > len(content):
            return
        _, length, kind = _CHUNK.unpack_from(content, place)
        place += _CHUNK.size
        if place + length > len(content):
            return
        yield kind, content[place : place + length]
        place += length
