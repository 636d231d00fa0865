"""Memory of the devices that training runs on: how much is free, and how much a step has taken."""

import gc

import torch

from svc.memory import available_bytes, peak_memory_gib, resident_bytes, restart_peak_memory


def free_bytes(device: torch.device) -> int | None:
    """What this process can still take of a device's memory, what torch has kept of it included.

    For the CPU this is the machine's memory, or what a control group leaves of it.

    Returns:
        Bytes, or None where nobody says.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    return available_bytes() if device.type == "cpu" else None


def budget_bytes(device: torch.device, sharers: int = 1) -> int | None:
    """What this process can have of a device's memory in all, what it has already included.

    It is measured as `peak_bytes` is: of a CUDA device, what torch's allocator holds.

    Args:
        sharers: processes that take of the same memory at the same time.

    Returns:
        Bytes, or None where nobody says.
    """
    free = free_bytes(device)
    if free is None:
        return None
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else resident_bytes()
    return held + free // sharers


def restart_peak(device: torch.device) -> None:
    """Let `peak_bytes` begin anew, from what is in use now."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        # What is kept for later would count as taken.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        restart_peak_memory()


def peak_bytes(device: torch.device) -> int:
    """The most that this process has held of the device's memory since `restart_peak`."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_reserved(device))
    return int(peak_memory_gib() * 2**30)


def release(device: torch.device) -> None:
    """Give back what nothing uses any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
