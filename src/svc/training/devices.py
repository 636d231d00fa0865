"""What the devices of this machine can do, as far as training is concerned."""

import re

import torch

from svc.hardware import cpu_has_bf16_units

BF16_CAPABILITY = (8, 0)
"""Compute capability from which CUDA devices have bf16 matrix units (Ampere)."""

TENSOR_CORE_FP16_CAPABILITY = (7, 5)
"""Turing. Volta (7.0) has fp16 matrix units as well, but is served by its own trainer."""

H100_MEMORY_GIB = 70.0
"""For the batches of h100_bf16."""


def choose_trainer() -> str:
    """The name of the trainer option that suits this machine best, for `trainer=auto`.

    Several CUDA devices: ddp_bf16 where all have bf16 units, else ddp_fp16. One: h100_bf16 for a
    Hopper with 70 GiB or more, else a100_bf16, t4_fp16 or v100_fp16 by its compute capability. An
    Apple GPU: mps. None: cpu_bf16 where the CPU has bf16 units, else cpu. A CUDA device too old for
    fp16 matrix units trains in cpu's stead only if asked to.
    """
    if torch.cuda.is_available():
        capabilities = [
            torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())
        ]
        slowest = min(capabilities)
        if len(capabilities) > 1 and slowest >= (7, 0):
            return "ddp_bf16" if slowest >= BF16_CAPABILITY else "ddp_fp16"
        if capabilities[0] >= (9, 0) and _memory_gib() >= H100_MEMORY_GIB:
            return "h100_bf16"
        if capabilities[0] >= BF16_CAPABILITY:
            return "a100_bf16"
        if capabilities[0] >= TENSOR_CORE_FP16_CAPABILITY:
            return "t4_fp16"
        if capabilities[0] >= (7, 0):
            return "v100_fp16"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu_bf16" if cpu_has_bf16_units() else "cpu"


def _memory_gib() -> float:
    return float(torch.cuda.get_device_properties(0).total_memory) / 2**30


def supports(accelerator: str, devices: int | str, precision: str) -> str | None:
    """Why this machine cannot train like this, in words, or None if it can.

    Args:
        accelerator: Lightning's name: "cpu", "gpu", "mps" or "auto".
        devices: how many, or -1 or "auto" for all.
        precision: "32-true", "bf16-mixed" or "16-mixed".
    """
    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        if precision == "16-mixed":
            return "fp16 is for GPUs: CPUs compute it more slowly than fp32"
        return None
    if accelerator == "mps":
        return _problem_of_apples(devices, precision)
    if not torch.cuda.is_available():
        return "this machine has no CUDA device that PyTorch can use"
    present = torch.cuda.device_count()
    wanted = devices_here("gpu", devices)
    if wanted > present:
        return f"it wants {wanted} CUDA devices and this machine has {present}"
    problems = (_problem_of_cuda(index, precision) for index in range(wanted))
    return next((problem for problem in problems if problem is not None), None)


def _problem_of_apples(devices: int | str, precision: str) -> str | None:
    if not torch.backends.mps.is_available():
        return "this machine has no Apple GPU"
    if devices_here("mps", devices) > 1:
        return f"it wants {devices} Apple GPUs and a machine has 1"
    if precision != "32-true":
        return f"Apple GPUs train with trainer.precision=32-true, not {precision}"
    return None


def _problem_of_cuda(index: int, precision: str) -> str | None:
    major, minor = torch.cuda.get_device_capability(index)
    name = torch.cuda.get_device_name(index)
    if not _has_kernels_for(major, minor):
        built_for = ", ".join(torch.cuda.get_arch_list())
        return (
            f"{name} has compute capability {major}.{minor}, and PyTorch {torch.__version__} was "
            f"built for {built_for}; install a build of PyTorch that knows it"
        )
    if precision == "bf16-mixed" and (major, minor) < BF16_CAPABILITY:
        return (
            f"bf16 needs compute capability {BF16_CAPABILITY[0]}.{BF16_CAPABILITY[1]} and "
            f"{name} has {major}.{minor}"
        )
    return None


def _has_kernels_for(major: int, minor: int) -> bool:
    """Whether this build of PyTorch holds kernels for a compute capability (sm_86: for that and
    later ones of the same major version), or code to be compiled for it (compute_90: for any that
    is not older)."""
    built_for = [re.fullmatch(r"(sm|compute)_(\d+)\D?", n) for n in torch.cuda.get_arch_list()]
    for found in built_for:
        number = int(found[2]) if found else 0
        if found and found[1] == "compute" and number <= 10 * major + minor:
            return True
        if number // 10 == major and number % 10 <= minor:
            return True
    return not any(built_for)  # GPUs of other makers have other names


def devices_here(accelerator: str, devices: int | str) -> int:
    """How many devices of this machine a trainer uses; -1 and "auto" are all of them, and so is
    what is no number, which others refuse."""
    on_gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    if str(devices).isdecimal():
        return int(devices)
    return max(torch.cuda.device_count(), 1) if on_gpu else 1
