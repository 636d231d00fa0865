"""What this machine can do, measured in the same run as everything that is compared with it."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch.nn import functional

from svc.hardware import cpu_has_bf16_units


@dataclass(frozen=True)
class MachineRates:
    """Rates of plain torch operations in GFLOP/s, the best of several runs."""

    conv1d_fp32: float
    """512 -> 1024 channels, kernel 3, 860 frames: the yardstick of normalised cost."""
    conv1d_bf16: float
    matmul_fp32: float
    """2048 x 2048 x 2048."""
    matmul_bf16: float


def precisions() -> tuple[str, ...]:
    """What sections measure: bf16 as well where the CPU has units for it. Without them it is
    emulated at a hundredth of the speed, which says nothing about the code."""
    return ("fp32", "bf16") if cpu_has_bf16_units() else ("fp32",)


def best_seconds(work: Callable[[], object], repeats: int = 5, warm_up: int = 1) -> float:
    """Shortest wall time of `work` over `repeats` runs, after `warm_up` runs."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.inference_mode()
def measure_rates(repeats: int = 12) -> MachineRates:
    """The machine's convolution and matrix rates with the threads torch uses now.

    A CPU without units for bf16 is some hundred times slower in it: it is given a hundredth of the
    work, once, or this would take ten minutes.
    """
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        emulated = dtype is torch.bfloat16 and not cpu_has_bf16_units()
        frames, side, runs = (86, 448, 1) if emulated else (860, 2048, repeats)
        x = torch.randn(1, 512, frames, dtype=dtype)
        weight = torch.randn(1024, 512, 3, dtype=dtype)
        seconds = best_seconds(lambda x=x, w=weight: functional.conv1d(x, w, padding=1), runs)
        rates[f"conv1d_{name}"] = 2 * 512 * 1024 * 3 * frames / seconds / 1e9
        square = torch.randn(side, side, dtype=dtype)
        seconds = best_seconds(lambda s=square: s @ s, runs)
        rates[f"matmul_{name}"] = 2 * side**3 / seconds / 1e9
    return MachineRates(**{name: round(rate, 1) for name, rate in rates.items()})


def describe_machine(rates: MachineRates) -> dict[str, object]:
    """Facts to stand beside every figure."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gflop_per_s": asdict(rates),
    }


def three_ways(
    seconds: float, gflop: float, rates: MachineRates, precision: str
) -> dict[str, float]:
    """A duration as seconds, as a fraction of the machine's convolution rate, and normalised.

    Args:
        seconds: measured wall time.
        gflop: floating-point work that was needed, in GFLOP.
        precision: `fp32` or `bf16`; which convolution rate the fraction refers to.

    Normalised cost is seconds x the machine's fp32 convolution rate, which travels between
    machines.
    """
    rate = rates.conv1d_bf16 if precision == "bf16" else rates.conv1d_fp32
    return {
        "seconds": round(seconds, 4),
        "fraction_of_conv1d_rate": round(gflop / seconds / rate, 3),
        "normalised_cost": round(seconds * rates.conv1d_fp32, 1),
    }


def processor() -> str:
    """Name of the CPU."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
        return names[0].strip() if names else platform.processor()
    except OSError:
        return platform.processor()
