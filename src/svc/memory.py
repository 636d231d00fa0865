"""Memory that the process keeps, and how much it has taken."""

import ctypes
import gc
import os
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


def resident_bytes() -> int:
    """What of this process lies in memory now; its peak where the system does not say that."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return int(peak_memory_gib() * 2**30)
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def in_gib(size_bytes: float, digits: int = 1) -> str:
    """A size for people: "1.3 GiB"."""
    return f"{size_bytes / 2**30:.{digits}f} GiB"


def total_bytes() -> int | None:
    """Memory of the machine; None where the system does not say."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):  # Windows
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int | None:
    """Memory that this process can still take without anything being swapped out.

    That is what the machine has available, or what the process's control group (a container, a
    batch job) leaves of its limit. None where the system does not say.
    """
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    kib = re.search(r"^MemAvailable:\s*(\d+) kB", info.read_text("ascii"), re.MULTILINE)
    if kib is None:
        return None
    return min(int(kib.group(1)) * 1024, *_left_by_control_groups(), sys.maxsize)


def _left_by_control_groups(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """What each control group with a limit that this process is in leaves of it; of both versions
    of control groups. A container sees its own group as the root."""
    with suppress(OSError):
        lines = groups.read_text(encoding="utf-8").splitlines()
        found = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]
        left = []
        for controllers, path in found:
            if controllers == "":
                left += _left_above(root, path, ("memory.max", "memory.current", "inactive_file"))
            elif "memory" in controllers.split(","):
                files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                left += _left_above(root / "memory", path, files)
        return left
    return []


def _left_above(root: Path, path: str, names: tuple[str, str, str]) -> list[int]:
    """What is left in a group and in those around it. Files that were read and are not in use any
    more count as free.

    Args:
        root: of the hierarchy.
        path: of the group within it.
        names: of the files with limit and usage, and of the line in memory.stat.
    """
    limit_file, usage_file, reclaimable = names
    group = root / path.strip("/")
    left = []
    for folder in (group, *group.parents):
        with suppress(OSError, ValueError):
            limit = int((folder / limit_file).read_text(encoding="ascii"))  # "max" is none
            usage = int((folder / usage_file).read_text(encoding="ascii"))
            stat = (folder / "memory.stat").read_text(encoding="ascii")
            files = re.search(rf"^{reclaimable} (\d+)", stat, re.MULTILINE)
            left.append(max(limit - usage + (int(files.group(1)) if files else 0), 0))
        if folder == root:
            break
    return left
