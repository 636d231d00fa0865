"""What the device can do: matrix products, convolutions and copies of a size that fills it."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from benchmarks import machine
from gpu_checks.cases import PRECISIONS, problem_of

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def synchronise(device: torch.device) -> None:
    """Wait for everything that the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best_seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Shortest time of `work`, the device's included, after one run that warms up."""

    def whole() -> None:
        work()
        synchronise(device)

    return machine.best_seconds(whole, repeats)


@contextmanager
def tf32_products(allowed: bool) -> Any:
    """Matrix products and convolutions in TF32, or not, while the context is open."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@torch.inference_mode()
def measure_rates(device: torch.device, full: bool) -> dict[str, dict[str, float]]:
    """`matmul` and `conv1d` in TFLOP/s per precision, and `copy` in GB/s (read and written)."""
    side, batch = (8192, 64) if full else (256, 1)
    matmul, conv = {}, {}
    for name, dtype in DTYPES.items():
        if problem_of(name, device.type) is not None:
            continue
        with tf32_products(PRECISIONS[name].tf32):
            square = torch.randn(side, side, device=device).to(dtype)
            seconds = best_seconds(lambda s=square: s @ s, device)
            matmul[name] = round(2 * side**3 / seconds / 1e12, 3)
            # The yardstick of docs/benchmarks.md, many times: 512 -> 1024 channels, 860 frames.
            x = torch.randn(batch, 512, 860, device=device).to(dtype)
            weight = torch.randn(1024, 512, 3, device=device).to(dtype)
            work = 2 * batch * 512 * 1024 * 3 * 860
            seconds = best_seconds(lambda x=x, w=weight: functional.conv1d(x, w, padding=1), device)
            conv[name] = round(work / seconds / 1e12, 3)
    source = torch.randn((1 << 30 if full else 1 << 20) // 4, device=device)
    target = torch.empty_like(source)
    seconds = best_seconds(lambda: target.copy_(source), device)
    copy = round(2 * source.numel() * 4 / seconds / 1e9, 1)
    return {
        "matmul_tflop_per_s": matmul,
        "conv1d_tflop_per_s": conv,
        "copy_gb_per_s": {"all": copy},
    }
