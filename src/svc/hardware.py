"""What the processor can compute."""

import torch
from torch import Tensor


def cpu_has_bf16_units() -> bool:
    """Whether the CPU multiplies bf16 in hardware (AVX-512 BF16 or AMX), as PyTorch sees it."""
    return _cpu_has("_is_avx512_bf16_supported") or cpu_has_matrix_units()


def cpu_has_matrix_units() -> bool:
    """Whether the CPU has AMX, which multiplies bf16 at about four times its rate in fp32."""
    return _cpu_has("_is_amx_tile_supported")


def in_float64(x: Tensor) -> Tensor:
    """x in float64: on its own device, or on the CPU where that has none, as Apple's GPUs."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def _cpu_has(probe: str) -> bool:
    # The names of these probes differ from version to version of PyTorch.
    return bool(getattr(torch.cpu, probe, bool)())
