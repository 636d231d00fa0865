"""The pickles in torch's files, read without executing anything from them.

A pickle is a programme: it may name any function and have it called. The only names that mean
anything to the unpickler below are those of tensors and of plain containers. Every other name
becomes a placeholder that swallows its arguments: many files hold objects of packages that are not
installed here (fairseq's dictionaries, omegaconf's containers, `argparse.Namespace`).

Tensors stay descriptions until it is known which of them are weights.
"""

import math
import operator
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Storage:
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


class LazyTensor(_Inert):
    """The description of a tensor; `_Inert` because a pickle may try to change any object."""

    storage: Any = None
    offset: Any = 0
    size: Any = ()
    stride: Any = ()

    def bytes(self, itemsize: int) -> int:
        """What it takes when every number is written out. Raises TypeError where its size makes no
        sense."""
        return math.prod(operator.index(length) for length in self.size) * itemsize

    def read(self, numbers: Tensor) -> Tensor:
        """The tensor, from all the numbers of its storage. Raises RuntimeError where they are too
        few, and where the description makes no sense TypeError."""
        tensor = numbers.as_strided(tuple(self.size), tuple(self.stride), self.offset)
        # What repeats numbers is left doing so; what shares them gets its own.
        return tensor.clone() if tensor.numel() <= numbers.numel() else tensor


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
    tensor = LazyTensor()
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


class Unpickler(pickle.Unpickler):
    """Knows tensors and plain containers; nothing else is looked up, imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        make = _MEANINGFUL.get((module, name))
        return _Inert if make is None else _maker(make)

    def persistent_load(self, pid: Any) -> Storage:
        """("storage", type, key, location, numel, ...), which is how torch names a storage."""
        kind, dtype, key, _, numel = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"an unknown kind of storage: {kind!r}")
        return Storage(str(key), dtype, int(numel))


def unpickled(unpickler: Callable[[IO[bytes]], pickle.Unpickler], file: IO[bytes]) -> Any:
    """The object in the pickle that begins here; the file is left where it ends."""
    start = file.tell()
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        # The memo is an array, and Python makes it as long as the highest place that is named.
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise pickle.UnpicklingError(f"place {argument} of its memo is named out of turn")
    file.seek(start)
    return unpickler(file).load()


class RememberingUnpickler(Unpickler):
    """Keeps what it learned of each storage: the old format tells their types only once."""

    def __init__(self, file: IO[bytes], storages: dict[str, Storage]) -> None:
        super().__init__(file)
        self.storages = storages

    def persistent_load(self, pid: Any) -> Storage:
        storage = super().persistent_load(pid)
        return self.storages.setdefault(storage.key, storage)
