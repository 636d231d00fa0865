"""Who reads the crops of a training: from the files, from RAM or on the device that trains."""

import logging
from dataclasses import dataclass

import torch

from svc.audio.spec import AudioSpec
from svc.data.augmentation.parameters import Augmentation
from svc.data.cache import Cache, TrainingSet, place_for
from svc.data.crop_reader import CropReader
from svc.data.device_cache import DeviceCache
from svc.data.slice_arrays import CropParts, SliceArrays
from svc.data.store import FeatureStore
from svc.errors import UserError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Readers:
    """Of a prepared dataset."""

    train: CropReader | DeviceCache
    """Of the training slices."""
    valid: CropReader
    """Of the validation slices."""

    @classmethod
    def of_files(
        cls, store: FeatureStore, spec: AudioSpec, augmentation: Augmentation | None
    ) -> "Readers":
        """Nothing is kept.

        Raises:
            UserError: `spec` has another framing than the store.
        """
        return cls(
            CropReader(store, store.split("train"), spec, augmentation=augmentation),
            CropReader(store, store.split("valid"), spec),
        )

    @classmethod
    def cached(
        cls,
        store: FeatureStore,
        spec: AudioSpec,
        augmentation: Augmentation | None,
        *,
        cache: Cache,
        workers: int,
        device: torch.device,
        processes: int,
    ) -> "Readers":
        """Where `svc.data.cache.place_for` puts the training set; validation crops lie in RAM
        unless that leaves everything in its files.

        Args:
            workers: processes that load.
            device: that trains.
            processes: training processes on this machine.

        Raises:
            UserError: the set is to lie on the device and cannot; or a file of it cannot be read.
        """
        train = store.split("train")
        parts = CropParts.of(store, spec, augmentation, kept=True)
        training_set = TrainingSet.of(parts, store, train, spec, augmentation, workers)
        place = place_for(cache, training_set, device, processes)
        if place == "none":
            return cls.of_files(store, spec, augmentation)
        valid = CropReader(store, store.split("valid"), spec, in_ram=True)
        if place == "ram":
            return cls(CropReader(store, train, spec, True, augmentation), valid)
        arrays = SliceArrays(store, train, spec, parts)
        try:
            gathering = DeviceCache(arrays, store, train, spec, device)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"data.cache={cache}: {device} has no room for the training set after all "
                f"({str(error).splitlines()[0]}). Use data.cache=ram or data.cache=none."
            ) from error
        size_mib = training_set.device_bytes / 2**20
        _logger.info("The training set lies in the memory of %s: %.1f MiB.", device, size_mib)
        return cls(gathering, valid)
