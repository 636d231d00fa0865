"""Memory that the process keeps, and how much it has taken."""

import ctypes
import gc
import re
import sys
from contextlib import suppress
from pathlib import Path

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


def restart_peak_memory() -> None:
    """Let `peak_memory_gib` begin anew, without what earlier work in this process has left behind.

    Nothing is changed where the system does not allow that: then the peak is that of the process.
    """
    gc.collect()
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # what `keep_freed_memory` has kept
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_gib() -> float:
    """Largest resident size of this process since `restart_peak_memory`, in GiB; 0 on Windows."""
    status = Path("/proc/self/status")
    if status.is_file():
        kib = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"), re.MULTILINE)
        if kib is not None:
            return int(kib.group(1)) / 2**20
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
