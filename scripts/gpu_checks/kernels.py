"""Where the device spends the time of a step."""

import time
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

SLOWEST = 15
NAME_LENGTH = 110


class KernelTimes:
    """Profiles a few steps and says which kernels took how long.

    Args:
        device: whose kernels; on a CPU, operations.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._profile: Any = None

    def start(self) -> None:
        """From here on."""
        activities = [ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities)
        self._profile.__enter__()
        self._started_s = time.perf_counter()

    def stop(self, steps: int) -> None:
        """Up to here, which was so many steps."""
        self._wall_ms = 1e3 * (time.perf_counter() - self._started_s) / steps
        self._profile.__exit__(None, None, None)
        self._steps = steps

    def table(self) -> dict[str, Any]:
        """`busy_ms` of a step and the slowest kernels, each with `ms` per step, share and calls."""
        times: dict[str, tuple[float, int]] = {}
        on_device = self._device.type == "cuda"
        for event in self._profile.key_averages():
            is_kernel = event.device_type == torch.autograd.DeviceType.CUDA
            if on_device and (not is_kernel or event.is_user_annotation):
                continue  # annotations last as long as the kernels below them
            micros = event.self_device_time_total if on_device else event.self_cpu_time_total
            times[event.key] = (micros / 1e3 / self._steps, event.count // self._steps)
        busy_ms = sum(ms for ms, _ in times.values())
        slowest = sorted(times.items(), key=lambda item: -item[1][0])[:SLOWEST]
        return {
            "busy_ms": round(busy_ms, 2),
            "wall_ms_with_profiler": round(self._wall_ms, 2),
            "launches": sum(count for _, count in times.values()),
            "slowest": [
                {
                    "name": name[:NAME_LENGTH],
                    "ms": round(ms, 3),
                    "share": round(ms / busy_ms, 3),
                    "calls": count,
                }
                for name, (ms, count) in slowest
                if busy_ms > 0
            ],
        }
