"""What this machine can do."""

import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from svc import __version__
from svc.checkpoints import registry
from svc.checkpoints.weights import checkpoints_folder, present_file
from svc.data.process_pool import available_cores
from svc.hardware import cpu_has_bf16_units
from svc.memory import available_bytes, total_bytes
from svc.training.devices import BF16_CAPABILITY

_PACKAGES = (
    *("torch", "torchaudio", "lightning", "hydra-core", "fairseq2", "numpy", "soundfile"),
    *("praat-parselmouth", "torchcrepe"),
    *("torchfcpe", "pyworld", "faster-whisper", "onnxruntime", "gradio", "ray"),
)
"""The last six are extras."""
_GIB = 2**30
_BATCH_MEMORY_GIB = 14.5
"""Memory for which the GPU trainers' batch size is meant: a T4's 16 GB, less what it keeps."""
LITTLE_DISK_GIB = 20.0
"""An hour of recordings takes about 1 GiB prepared; a run with its checkpoints 1 to 5."""
LITTLE_MEMORY_GIB = 4.0


@dataclass(frozen=True)
class Device:
    """Something that trains and converts."""

    name: str
    """As `device=` takes it: "cpu", "cuda:0"."""
    model: str
    memory_gib: float | None
    """Its own memory; the machine's for the CPU."""
    precisions: tuple[str, ...]
    """Those that it computes in hardware, best first."""


@dataclass(frozen=True)
class PresentWeights:
    """Pretrained weights that parts of the toolkit use."""

    name: str
    """For `svc-download NAME`."""
    used_by: str
    file: str
    present: bool
    size_gib: float | None


@dataclass(frozen=True)
class Machine:
    """What there is to work with."""

    system: str
    cores: int
    """That this process may use."""
    memory_gib: float | None
    free_memory_gib: float | None
    """What this process can still take: of the machine, or of its container's limit."""
    disk: str
    """Folder that the free space was asked for."""
    free_disk_gib: float
    devices: tuple[Device, ...]
    versions: dict[str, str | None]
    """Package -> version; None where it is not installed."""
    weights_folder: str
    weights: tuple[PresentWeights, ...]


@dataclass(frozen=True)
class Recommendation:
    """What to train with here."""

    trainer: str
    batch_size: int
    """Per device."""
    precision: str
    working: tuple[str, ...]
    """Every trainer that runs here."""
    remarks: tuple[str, ...]
    """What to mind, in words."""


def inspect_machine(disk: Path) -> Machine:
    """Look at this machine.

    Args:
        disk: folder that runs will be written to; it need not exist.
    """
    place = disk.absolute()
    while not place.exists():
        place = place.parent
    total_gib, free_gib = (_gib(size) for size in (total_bytes(), available_bytes()))
    return Machine(
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        cores=available_cores(),
        memory_gib=total_gib,
        free_memory_gib=free_gib,
        disk=str(place),
        free_disk_gib=round(shutil.disk_usage(place).free / _GIB, 1),
        devices=(_cpu(total_gib), *map(_cuda, range(torch.cuda.device_count()))),
        versions={"svc": __version__, **{name: _version(name) for name in _PACKAGES}},
        weights_folder=str(checkpoints_folder()),
        weights=_weights(),
    )


def recommend(
    machine: Machine, trainer: str, batch_size: int, precision: str, working: Sequence[str]
) -> Recommendation:
    """Complete what the configuration of the chosen trainer says by what this machine has.

    Args:
        machine: from `inspect_machine`.
        trainer: what `trainer=auto` chooses.
        batch_size: of that option.
        precision: of that option.
        working: the options that run here.
    """
    gpus = [device for device in machine.devices if device.name != "cpu"]
    on_gpu = bool(gpus) and not trainer.startswith("cpu")
    remarks = []
    if on_gpu:
        smallest_gib = min(gpu.memory_gib or 0.0 for gpu in gpus)
        fitting = fitting_batch_size(batch_size, smallest_gib)
        if fitting < batch_size:
            batch_size = fitting
            remarks.append(
                f"The GPU has {smallest_gib:.0f} GiB: train with data.batch_size={batch_size}."
            )
    else:
        remarks.append(
            "Without a GPU training a full model takes weeks: train elsewhere (a T4 suffices), or "
            "try experiment=tiny_cpu. Converting works here."
        )
    if machine.free_memory_gib is not None and machine.free_memory_gib < LITTLE_MEMORY_GIB:
        remarks.append(
            f"Only {machine.free_memory_gib:.1f} GiB of memory are free: close other programs."
        )
    if machine.free_disk_gib < LITTLE_DISK_GIB:
        remarks.append(
            f"Only {machine.free_disk_gib:.1f} GiB are free in {machine.disk}: a long training "
            f"with its checkpoints may fill them (paths.output_dir= writes elsewhere)."
        )
    return Recommendation(trainer, batch_size, precision, tuple(working), tuple(remarks))


def fitting_batch_size(batch_size: int, memory_gib: float) -> int:
    """The batch size that suits a GPU's memory: halved until its share of 16 GB fits; at least 1.

    Args:
        batch_size: of a GPU trainer, meant for a GPU of 16 GB.
        memory_gib: of the GPU.
    """
    needed_gib = _BATCH_MEMORY_GIB
    while batch_size > 1 and needed_gib > memory_gib:
        batch_size //= 2
        needed_gib /= 2
    return batch_size


def _cpu(memory_gib: float | None) -> Device:
    precisions = ("bf16", "fp32") if cpu_has_bf16_units() else ("fp32",)
    return Device("cpu", _cpu_model(), memory_gib, precisions)


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cuda(index: int) -> Device:
    properties = torch.cuda.get_device_properties(index)
    capability = (properties.major, properties.minor)
    precisions = ["fp32"]
    if capability >= (7, 0):
        precisions.insert(0, "fp16")
    if capability >= BF16_CAPABILITY:
        precisions.insert(0, "bf16")
    memory_gib = round(properties.total_memory / _GIB, 1)
    return Device(f"cuda:{index}", properties.name, memory_gib, tuple(precisions))


def _gib(size_bytes: int | None, digits: int = 1) -> float | None:
    return None if size_bytes is None else round(size_bytes / _GIB, digits)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _weights() -> tuple[PresentWeights, ...]:
    return tuple(
        PresentWeights(
            name=name,
            used_by=weights.used_by,
            file=weights.file,
            present=present_file(weights) is not None,
            size_gib=_gib(weights.size_bytes, digits=2),
        )
        for name, weights in registry.entries().items()
    )
