"""Memory that the process keeps."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next tensor instead of giving it back.

    By default glibc maps every tensor above 32 MiB afresh, and the kernel then clears its pages one
    by one: on two CPU cores that was a fifth of a training step of HiFiSinger, a tenth of a
    conversion, and nine tenths of copying such a tensor. The process stays as large as it has ever
    been until it ends, so this is for commands, not for a library to decide.

    Returns:
        Whether it took effect; False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
