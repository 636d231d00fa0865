"""Reads the weights in a published file without executing anything from it.

Published checkpoints are mostly pickles, and a pickle is a programme: it may name any function and
have it called. Many also hold objects of packages that are not installed here (fairseq's
dictionaries, omegaconf's containers, `argparse.Namespace`). So the only names that mean anything to
the unpickler below are those of tensors and of plain containers. Every other name becomes a
placeholder that swallows its arguments.

Tensors stay descriptions until it is known which of them are weights: the optimiser's state, twice
as large, is never read from the disk.
"""

import pickle
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from svc.errors import UserError

WRAPPERS = ("model", "state_dict", "generator", "hubert")
"""Names under which published checkpoints keep their weights, besides other things."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First object of a file that torch wrote before version 1.6."""

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

_DAMAGE = (
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


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in a file: names as they were published, tensors on the CPU.

    Reads safetensors, torch's zip files and torch's files from before version 1.6. Where the
    weights lie under one of `WRAPPERS`, what is around them is left aside; so is everything that is
    not a tensor.

    Raises:
        UserError: the file is not there, is text, is cut short or damaged, or holds no tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file of weights.")
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
            return load_file(path)
        read = _read_zip if head.startswith(b"PK\x03\x04") else _read_legacy
        return read(path)
    except _DAMAGE as error:
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


@dataclass(frozen=True)
class _Storage:
    """A run of numbers in the file that is not read yet."""

    key: str
    dtype: torch.dtype
    numel: int


class _Inert:
    """Stands for whatever the unpickler has no use for: takes everything and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> "_Inert":
        return _Inert()

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


class _LazyTensor(_Inert):
    """The description of a tensor; `_Inert` because a pickle may try to change any object."""

    storage: Any = None
    offset: Any = 0
    size: Any = ()
    stride: Any = ()

    def read(self, numbers: Tensor) -> Tensor:
        """The tensor, from all the numbers of its storage. Raises RuntimeError where they are too
        few, and where the description makes no sense TypeError."""
        return numbers.as_strided(tuple(self.size), tuple(self.stride), self.offset).clone()


class _Dict(dict[Any, Any]):
    """An ordered dictionary whose attributes a pickle cannot set."""

    def __setstate__(self, state: Any) -> None: ...


class _Maker(_Inert):
    """One of the few callables that a pickle may call."""

    make: Callable[..., Any]

    def __call__(self, *arguments: Any, **_: Any) -> Any:
        return self.make(*arguments)


def _maker(make: Callable[..., Any]) -> _Maker:
    maker = _Maker()
    maker.make = make
    return maker


def _lazy_tensor(*arguments: Any) -> _Inert:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)."""
    if len(arguments) < 4:
        return _Inert()
    tensor = _LazyTensor()
    tensor.storage, tensor.offset, tensor.size, tensor.stride = arguments[:4]
    return tensor


def _of_type(*arguments: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2(make, type, arguments, state): with attributes."""
    make = arguments[0] if arguments else None
    return make(*arguments[2]) if isinstance(make, _Maker) else _Inert()


_MEANINGFUL: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _Dict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _lazy_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _lazy_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
}


class _Unpickler(pickle.Unpickler):
    """Knows tensors and plain containers; nothing else is looked up, imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        make = _MEANINGFUL.get((module, name))
        return _Inert if make is None else _maker(make)

    def persistent_load(self, pid: Any) -> _Storage:
        """("storage", type, key, location, numel, ...), which is how torch names a storage."""
        kind, dtype, key, _, numel = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"an unknown kind of storage: {kind!r}")
        return _Storage(str(key), dtype, int(numel))


def _read_zip(path: Path) -> dict[str, Tensor]:
    """torch's format since 1.6: a zip of one pickle and a file per storage, in one folder."""
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order).decode() != sys.byteorder:
            raise ValueError(f"written on a machine with {archive.read(order).decode()} endian")
        with archive.open(pickled) as file:
            lazy = _weights_of(_Unpickler(file).load(), path)
        return _read_tensors(lazy, lambda storage: archive.read(f"{folder}data/{storage.key}"))


def _read_legacy(path: Path) -> dict[str, Tensor]:
    """torch's format before 1.6: pickles one after the other, then the storages."""
    with path.open("rb") as file:
        if _Unpickler(file).load() != _LEGACY_MAGIC:
            raise pickle.UnpicklingError("a pickle, but not one that torch wrote")
        _Unpickler(file).load()  # version of the protocol
        facts = _Unpickler(file).load()
        if not facts["little_endian"]:
            raise ValueError("written on a machine with big endian")
        unpickler = _RememberingUnpickler(file)
        content = unpickler.load()
        places = {}
        for key in _Unpickler(file).load():
            numel = int.from_bytes(file.read(8), "little", signed=True)
            places[str(key)] = file.tell()
            file.seek(numel * unpickler.storages[str(key)].dtype.itemsize, 1)
        lazy = _weights_of(content, path)
        return _read_tensors(lazy, lambda storage: _read_at(file, places[storage.key], storage))


class _RememberingUnpickler(_Unpickler):
    """Keeps what it learned of each storage: the old format tells their types only once."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        storage = super().persistent_load(pid)
        return self.storages.setdefault(storage.key, storage)


def _read_at(file: IO[bytes], place: int, storage: _Storage) -> bytes:
    file.seek(place)
    return file.read(storage.numel * storage.dtype.itemsize)


def _weights_of(content: Any, path: Path) -> dict[str, _LazyTensor]:
    """The tensors of the outermost dictionary that has any, `WRAPPERS` taken off."""
    if isinstance(content, dict):
        candidates = [content, *(content.get(name) for name in WRAPPERS)]
        for candidate in candidates:
            if isinstance(candidate, dict):
                found = {str(k): v for k, v in candidate.items() if isinstance(v, _LazyTensor)}
                if found:
                    return found
    keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else "no dictionary"
    raise UserError(
        f"{path} holds no weights: expected tensors by name, at the top or under one of "
        f"{', '.join(WRAPPERS)}; found {keys or 'an empty dictionary'}."
    )


def _read_tensors(
    lazy: dict[str, _LazyTensor], read: Callable[[_Storage], bytes]
) -> dict[str, Tensor]:
    """Each tensor with its numbers; a storage that several share is read again for each."""
    tensors = {}
    for name, tensor in lazy.items():
        storage = tensor.storage
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError(f"{name} has no storage")
        size = storage.numel * storage.dtype.itemsize
        data = read(storage)
        if len(data) < size:
            raise EOFError(f"{name} has {len(data)} bytes of {size}")
        numbers = (
            torch.frombuffer(bytearray(data), dtype=storage.dtype, count=storage.numel)
            if storage.numel
            else torch.empty(0, dtype=storage.dtype)
        )
        tensors[name] = tensor.read(numbers)
    return tensors
