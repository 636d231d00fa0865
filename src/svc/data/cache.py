"""Where a training set is kept while it is trained on."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from svc.audio.spec import AudioSpec
from svc.data.augmentation.parameters import Augmentation
from svc.data.slice_arrays import CropParts
from svc.data.store import FeatureStore, SliceRecord
from svc.device_memory import free_bytes
from svc.errors import UserError
from svc.memory import in_gib

Cache = Literal["auto", "none", "ram", "device"]
Place = Literal["none", "ram", "device"]

DEVICE_MARGIN = 0.1
"""Share of the free memory of a device that `cache="device"` leaves alone."""

COMFORTABLE_SHARE = 0.125
"""Of the free memory of a GPU, or of the machine: so much `cache="auto"` takes at the most. The
rest is for the training."""


_PLACE_BYTES = 20
"""On a device, of each frame: between which frames of the content it lies."""


@dataclass(frozen=True)
class TrainingSet:
    """What is to be kept."""

    ram_bytes: int
    """In RAM."""
    device_bytes: int
    """On a device, gathered."""
    augmentation: Augmentation | None
    workers: int
    """Processes that load it from the disk or the RAM."""

    @classmethod
    def of(
        cls,
        parts: CropParts,
        store: FeatureStore,
        slices: Sequence[SliceRecord],
        spec: AudioSpec,
        augmentation: Augmentation | None,
        workers: int,
    ) -> "TrainingSet":
        """What the kept `parts` of some slices of a store take, from the manifest alone."""
        frames = sum(record.frames for record in slices)
        native = sum(record.content_frames for record in slices)
        contents = 1 + (store.content_variants if "variants" in parts.features else 0)
        content_bytes = native * contents * 2 * store.content_channels
        ram_bytes = frames * parts.frame_bytes(spec) + content_bytes
        context_frames = 2 * parts.margin_frames * len(slices)
        besides = context_frames * spec.hop_samples * 2 + frames * _PLACE_BYTES
        return cls(ram_bytes, ram_bytes + besides, augmentation, workers)


def place_for(
    wanted: Cache, training_set: TrainingSet, device: torch.device, sharers: int = 1
) -> Place:
    """Where the training set goes.

    `auto` takes the device, a CPU too, else the RAM, each where the set fits comfortably and
    training loses nothing by it; else it leaves the files where they are.

    Args:
        wanted: the setting `data.cache`.
        training_set: what it would take.
        device: that trains.
        sharers: training processes on this machine, each of which keeps its own.

    Raises:
        UserError: `device` is wanted and impossible; says why, and what to do.
    """
    if wanted == "device":
        problem = _device_problem(training_set, device, sharers)
        if problem is not None:
            raise UserError(f"data.cache=device: {problem} Use data.cache=ram or data.cache=none.")
        return "device"
    if wanted != "auto":
        return wanted
    needed = _needed_bytes(training_set, device, sharers)
    comfortable = _fits(needed, free_bytes(device), COMFORTABLE_SHARE)
    if comfortable and _device_problem(training_set, device, sharers) is None:
        return "device"
    # Where workers are not forked, each of them would be sent a copy.
    shared = training_set.workers == 0 or multiprocessing.get_start_method() == "fork"
    free = free_bytes(torch.device("cpu"))
    if shared and _fits(training_set.ram_bytes * sharers, free, COMFORTABLE_SHARE):
        return "ram"
    return "none"


def _needed_bytes(training_set: TrainingSet, device: torch.device, sharers: int) -> int:
    """Of the device's memory, by all who share that."""
    return training_set.device_bytes * (sharers if device.type == "cpu" else 1)


def _device_problem(training_set: TrainingSet, device: torch.device, sharers: int) -> str | None:
    """Why the training set cannot lie on the device, or None."""
    if device.type not in ("cpu", "cuda"):
        return f"datasets are kept on CUDA devices and CPUs only, and training runs on {device}."
    if (problem := _unsupported(training_set.augmentation)) is not None:
        return problem
    needed = _needed_bytes(training_set, device, sharers)
    free = free_bytes(device)
    if free is None or _fits(needed, free, 1 - DEVICE_MARGIN):
        return None
    return (
        f"the training set needs {in_gib(needed, 2)}, and {in_gib(free, 2)} of the memory of "
        f"{device} are free, {DEVICE_MARGIN:.0%} of which are left alone."
    )


def _unsupported(augmentation: Augmentation | None) -> str | None:
    """What of an augmentation needs audio that is resampled while it is read, or None."""
    if augmentation is None:
        return None
    probabilities = {
        "key_shift": augmentation.key_shift.probability,
        "time_stretch": augmentation.time_stretch.probability,
    }
    active = [
        f"augmentation.online.{name}.probability={probability:g}"
        for name, probability in probabilities.items()
        if probability > 0
    ]
    if not active:
        return None
    return (
        f"{' and '.join(active)} resample audio as it is loaded, on CPU cores; gains and perturbed "
        f"content work on the device too."
    )


def _fits(needed: int, free: int | None, share: float) -> bool:
    return free is not None and needed <= share * free
