"""What the processor can compute."""

import torch


def cpu_has_bf16_units() -> bool:
    """Whether the CPU multiplies bf16 in hardware (AVX-512 BF16 or AMX), as PyTorch sees it."""
    # The names of these probes differ from version to version of PyTorch.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)
