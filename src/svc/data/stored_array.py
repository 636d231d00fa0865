"""Arrays in .npy files, read in spans."""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StoredArray:
    """An array in a .npy file, of which spans are read by one system call each.

    Opening, reading and closing costs about 7 µs on a warm cache; a memory map costs more to set
    up for each crop, and kept open, thousands of slices exceed the limit on open files.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    row_bytes: int
    offset_bytes: int
    """Where the first row begins in the file."""

    @classmethod
    def of(cls, path: Path) -> "StoredArray":
        """Read the header of a .npy file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not a .npy file, or a transposed one.
        """
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"version {version} of the npy format")
            shape, transposed, dtype = np.lib.format.read_array_header_1_0(file)
            if transposed:
                raise ValueError("in Fortran order")
            row_bytes = dtype.itemsize * math.prod(shape[1:])
            return cls(str(path), shape, dtype, row_bytes, file.tell())

    def __getitem__(self, span: slice) -> NDArray[Any]:
        """Rows [span.start, span.stop), both given and within the array.

        Raises:
            ValueError: the file has become shorter.
        """
        start, stop = int(span.start), int(span.stop)
        offset_bytes = self.offset_bytes + start * self.row_bytes
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            content = os.pread(descriptor, (stop - start) * self.row_bytes, offset_bytes)
        finally:
            os.close(descriptor)
        rows = np.frombuffer(content, self.dtype)
        return rows.reshape(stop - start, *self.shape[1:]) if len(self.shape) > 1 else rows

    def part(self, index: int) -> "StoredArray":
        """The array [...] at `index` of an array [P, ...].

        Raises:
            ValueError: there is no such part.
        """
        if len(self.shape) < 2 or not 0 <= index < self.shape[0]:
            raise ValueError(f"no part {index} in an array of shape {self.shape}")
        inner = self.shape[1:]
        return replace(
            self,
            shape=inner,
            row_bytes=self.row_bytes // inner[0],
            offset_bytes=self.offset_bytes + index * self.row_bytes,
        )
