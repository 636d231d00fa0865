"""Reads the weights in a published file without executing anything from it.

Published checkpoints are mostly pickles, which `svc.checkpoints.safe_unpickling` reads. Tensors
stay descriptions until it is known which of them are weights: the optimiser's state, twice as
large, is never read from the disk.

A small file may also claim to be large: compressed entries and overlapping ones in a zip, a memo of
billions of places in a pickle, tensors that repeat a few numbers. What a file may grow to is
bounded before memory is taken.
"""

import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from svc.checkpoints.safe_unpickling import (
    LazyTensor,
    RememberingUnpickler,
    Storage,
    Unpickler,
    unpickled,
)
from svc.errors import UserError

WRAPPERS = ("model", "state_dict", "generator", "hubert")
"""Names under which published checkpoints keep their weights, besides other things."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First object of a file that torch wrote before version 1.6."""

_MOST_GROWTH = 2.0
"""Bytes that the entries of a zip may have unpacked, for each byte of the file: torch stores them
as they are, and repacking weights gains next to nothing."""
_MOST_REPEATED_BYTES = 1 << 30
"""What tensors may take beyond the numbers in the file, by repeating or sharing them."""
_MOST_CONFIG_VALUES = 20_000
"""That are copied of a configuration; a few lists that hold each other would be endless."""

DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    SafetensorError,
    EOFError,
    OSError,
    ArithmeticError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
    RuntimeError,  # RecursionError is one; NotImplementedError comes from odd zip archives
    MemoryError,  # a damaged length may ask for any amount
)
"""What reading a damaged, truncated or hostile file may raise."""


@dataclass(frozen=True)
class PublishedFile:
    """What a published file holds."""

    weights: dict[str, Tensor]
    """Names as they were published, tensors on the CPU."""
    config: dict[str, Any] = field(default_factory=dict)
    """What lies beside the weights under `config`: plain containers of text, numbers and None, as
    far as it is made of those."""
    left_aside: tuple[str, ...] = ()
    """Names of what else lies beside the weights."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in a file, see `read_published_file`."""
    return read_published_file(path).weights


def read_published_file(path: Path) -> PublishedFile:
    """The weights in a file, and the configuration beside them.

    Reads safetensors, torch's zip files and torch's files from before version 1.6. Where the
    weights lie under one of `WRAPPERS`, what is around them is left aside; so is everything that is
    not a tensor. Tensors that repeat numbers (strides of zero) still do.

    Raises:
        UserError: the file is not there, is text, is cut short or damaged, would take far more
            memory than its size, or holds no tensors.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not there"
        raise UserError(f"{path}: there is no such file of weights; it is {what}.")
    with path.open("rb") as file:
        head = file.read(512)
    if not head or _is_text(head):
        what = f"text that begins {head[:40].decode()!r}" if head else "nothing"
        raise UserError(
            f"{path} holds {what} instead of weights. A web page or a pointer may have been saved "
            f"in their place: fetch the file again."
        )
    try:
        if path.suffix == ".safetensors" or head[8:10] == b'{"':
            return PublishedFile(load_file(path))
        read = _read_zip if head.startswith(b"PK\x03\x04") else _read_legacy
        return read(path)
    except DAMAGE as error:
        raise UserError(
            f"{path} cannot be read as weights: it is cut short, damaged, or of another kind "
            f"({type(error).__name__}: {error}). Expected a safetensors file or one that torch "
            f"saved; it has {path.stat().st_size} bytes. Fetch it again."
        ) from error


def _is_text(head: bytes) -> bool:
    try:
        return all(character.isprintable() or character.isspace() for character in head.decode())
    except UnicodeDecodeError as error:
        # A character may be cut at the end of the head; anywhere else it is not text.
        return error.start >= len(head) - 3 and b"\0" not in head


def require_bounded_zip(path: Path) -> None:
    """Refuse a zip whose entries would unpack to far more than the file.

    Raises:
        UserError: naming both sizes.
        zipfile.BadZipFile: it is no zip, or a damaged one.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    size = path.stat().st_size
    if unpacked > _MOST_GROWTH * size:
        raise UserError(
            f"{path} has {size} bytes, but claims to unpack to {unpacked}: it is compressed, which "
            f"files of weights are not, or made to fill the memory. It is not read."
        )


def require_bounded(claimed_bytes: int, path: Path) -> None:
    """Refuse weights that would take far more memory than their file has bytes.

    Args:
        claimed_bytes: of all weights, every number written out.
        path: of the file.

    Raises:
        UserError: naming both sizes.
    """
    size = path.stat().st_size
    if claimed_bytes > _MOST_GROWTH * size + _MOST_REPEATED_BYTES:
        raise UserError(
            f"{path} has {size} bytes, but its weights would take {claimed_bytes}: it repeats a "
            f"few numbers to fill the memory, and is not read."
        )


def _read_zip(path: Path) -> PublishedFile:
    """torch's format since 1.6: a zip of one pickle and a file per storage, in one folder."""
    require_bounded_zip(path)
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order).decode() != sys.byteorder:
            raise ValueError(f"written on a machine with {archive.read(order).decode()} endian")
        with archive.open(pickled) as file:
            content = unpickled(Unpickler, io.BytesIO(file.read()))
        lazy = _weights_of(content, path)
        weights = _read_tensors(
            lazy, lambda storage: archive.read(f"{folder}data/{storage.key}"), path
        )
    return PublishedFile(weights, *_around(content, lazy))


def _read_legacy(path: Path) -> PublishedFile:
    """torch's format before 1.6: pickles one after the other, then the storages."""
    with path.open("rb") as file:
        if unpickled(Unpickler, file) != _LEGACY_MAGIC:
            raise pickle.UnpicklingError("a pickle, but not one that torch wrote")
        unpickled(Unpickler, file)  # version of the protocol
        facts = unpickled(Unpickler, file)
        if not facts["little_endian"]:
            raise ValueError("written on a machine with big endian")
        storages: dict[str, Storage] = {}
        content = unpickled(lambda file: RememberingUnpickler(file, storages), file)
        places = {}
        for key in unpickled(Unpickler, file):
            numel = int.from_bytes(file.read(8), "little", signed=True)
            places[str(key)] = file.tell()
            file.seek(numel * storages[str(key)].dtype.itemsize, 1)
        lazy = _weights_of(content, path)
        weights = _read_tensors(
            lazy, lambda storage: _read_at(file, places[storage.key], storage), path
        )
    return PublishedFile(weights, *_around(content, lazy))


def _read_at(file: IO[bytes], place: int, storage: Storage) -> bytes:
    file.seek(place)
    return file.read(storage.numel * storage.dtype.itemsize)


def _weights_of(content: Any, path: Path) -> dict[str, LazyTensor]:
    """The tensors of the outermost dictionary, or of one under `WRAPPERS` that has more of them."""
    if isinstance(content, dict):
        candidates = [
            {
                key: value
                for key, value in candidate.items()
                if isinstance(key, str) and isinstance(value, LazyTensor)
            }
            for candidate in (content, *(content.get(name) for name in WRAPPERS))
            if isinstance(candidate, dict)
        ]
        found = max(candidates, key=len)
        if found:
            return found
    named = [key for key in content if isinstance(key, str)] if isinstance(content, dict) else []
    keys = (
        ", ".join(key[:60] for key in named[:8]) if isinstance(content, dict) else "no dictionary"
    )
    raise UserError(
        f"{path} holds no weights: expected tensors by name, at the top or under one of "
        f"{', '.join(WRAPPERS)}; found {keys or 'an empty dictionary'}."
    )


def _around(
    content: dict[Any, Any], weights: dict[str, LazyTensor]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What lies beside the weights: the configuration, and names of the rest."""
    if any(value is content.get(name) for name, value in weights.items()):  # nothing is around them
        return {}, ()
    config = _Copy().of(content.get("config"))
    others = [
        name
        for name, value in content.items()
        if isinstance(name, str)
        and not (isinstance(value, dict) and weights.keys() <= value.keys())
    ]
    return (config if isinstance(config, dict) else {}), tuple(others)


class _Copy:
    """Copies text, numbers and containers of them, and puts None in the place of anything else."""

    def __init__(self) -> None:
        self._left = _MOST_CONFIG_VALUES

    def of(self, value: Any) -> Any:
        """The copy; None where too much has been copied already."""
        self._left -= 1
        if self._left < 0:
            return None
        if isinstance(value, dict):
            return {key: self.of(inner) for key, inner in value.items() if isinstance(key, str)}
        if isinstance(value, list | tuple):
            return [self.of(item) for item in value]
        return value if type(value) in (str, int, float, bool) else None


def _read_tensors(
    lazy: dict[str, LazyTensor], read: Callable[[Storage], bytes], path: Path
) -> dict[str, Tensor]:
    """Each tensor with its numbers; a storage that several share is read once."""
    of_storage: dict[str, list[str]] = {}
    claimed = 0
    for name, tensor in lazy.items():
        storage = tensor.storage
        if not isinstance(storage, Storage):
            raise pickle.UnpicklingError(f"{name} has no storage")
        of_storage.setdefault(storage.key, []).append(name)
        claimed += tensor.bytes(storage.dtype.itemsize)
    require_bounded(claimed, path)
    tensors: dict[str, Tensor] = {}
    for names in of_storage.values():
        storage = lazy[names[0]].storage
        size = storage.numel * storage.dtype.itemsize
        data = read(storage)
        if len(data) < size:
            raise EOFError(f"{names[0]} has {len(data)} bytes of {size}")
        numbers = (
            torch.frombuffer(bytearray(data), dtype=storage.dtype, count=storage.numel)
            if storage.numel
            else torch.empty(0, dtype=storage.dtype)
        )
        tensors |= {name: lazy[name].read(numbers) for name in names}
    return {name: tensors[name] for name in lazy}
