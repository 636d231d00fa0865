"""Batches for training and validation, resumable at any batch."""

from functools import partial
from typing import Any, Literal, get_args

import lightning
import torch
from torch.utils.data import DataLoader

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.augmentation.parameters import Augmentation
from svc.data.batch import Batch, CropPlaces, LoadedCrops
from svc.data.cache import Cache
from svc.data.dataset import (
    CropDataset,
    FixedCrops,
    ResumableLoader,
    already_batched,
    augmentation_draw,
)
from svc.data.device_cache import DeviceCache
from svc.data.readers import Readers
from svc.data.sampling import CropDraw, CropSampler, spread_crops
from svc.data.store import FeatureStore
from svc.errors import UserError


class SvcDataModule(lightning.LightningDataModule):
    """Crops of a prepared dataset.

    An epoch is as many crops as the training audio holds (at least one batch). Which crops the
    batch number k of a run holds is a function of the seed alone, so a run that resumes at batch k
    goes on with exactly the batches that it would have seen:

    - `batches_seen` counts the batches that a Trainer has taken, over all epochs, as if all had had
      the size of now. It is part of `state_dict`, which Lightning puts into every checkpoint and
      gives back before it resumes.
    - Every pass over the training loader begins at `batches_seen` and ends with the epoch in which
      that lies. The loader's `len` is always that of a whole epoch, also where a pass is shorter.
    - Without a Trainer, `set_position` moves it; passes alone do not.

    A Trainer needs `use_distributed_sampler=False`: with several processes each already draws its
    own samples.

    The loaders give `LoadedCrops`, or `CropPlaces` where the training set lies on the device;
    `to_batch` makes a `Batch` of either on the training device. A Trainer's steps see that.

    Args:
        store: the prepared dataset.
        spec: framing and mel range of the training.
        batch_size: crops per batch and process; "auto" leaves it to `choose_batch_size`
            (`svc.training.preflight` does).
        crop_frames: N of a training crop. Shorter slices are padded at the end.
        seed: decides which crops are drawn.
        workers: processes that load; 0, or a training set on the device, needs none.
        balanced_speakers: draw every speaker equally often rather than by its minutes.
        only_crops: train on the first so many crops of the run over and over; None for ever new
            ones. A model that cannot learn a few by heart is broken.
        cache: "ram" keeps the dataset in memory as it is stored, with the mels of whole slices
            (about 10 MB per minute), "device" that of training on its device, "auto" chooses
            (`svc.data.cache.place_for`).
        augmentation: what may happen to training crops (`svc.data.augmentation.parameters`); None
            for nothing. Validation crops stay as they are.
        valid_crop_frames: longest validation crop; a shorter slice is taken whole.
        valid_max_crops: how many validation crops at the most, spread over the validation slices.
        valid_batch_size: crops per validation batch.

    Raises:
        UserError: an argument is out of range, the store holds nothing to train on or no perturbed
            content where `augmentation` wants it, or its framing is not that of `spec`.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        spec: AudioSpec,
        batch_size: int | Literal["auto"] = 32,
        crop_frames: int = 32,
        seed: int = 0,
        workers: int = 2,
        balanced_speakers: bool = False,
        only_crops: int | None = None,
        cache: Cache = "none",
        augmentation: Augmentation | None = None,
        valid_crop_frames: int = 256,
        valid_max_crops: int = 64,
        valid_batch_size: int = 4,
    ) -> None:
        super().__init__()
        _check_positive(
            batch_size=1 if batch_size == "auto" else batch_size,
            crop_frames=crop_frames,
            only_crops=1 if only_crops is None else only_crops,
            valid_crop_frames=valid_crop_frames,
            valid_max_crops=valid_max_crops,
            valid_batch_size=valid_batch_size,
        )
        if cache not in get_args(Cache):
            raise UserError(
                f"data.cache={cache!r} is unknown. Choose one of {', '.join(get_args(Cache))}."
            )
        if workers < 0 or seed < 0:
            raise UserError(f"data.workers={workers} and data.seed={seed} must not be negative.")
        self.store = store
        self.spec = spec
        self.batches_seen = 0
        self._batch_size = None if batch_size == "auto" else batch_size
        self._mel = MelSpectrogram(spec)
        self._workers = workers
        self._valid_batch_size = valid_batch_size
        self._cached = partial(
            Readers.cached, store, spec, augmentation, cache=cache, workers=workers
        )

        train = store.split("train")
        if not train:
            raise UserError(f"The prepared dataset {store.folder} holds no slice to train on.")
        self._crops_in_audio = sum(record.frames for record in train) // crop_frames
        readers = Readers.of_files(store, spec, augmentation)
        self._train = CropDataset(
            readers.train,
            CropDraw(train, crop_frames, seed, balanced_speakers),
            augmentation_draw(store, augmentation, seed),
            only_crops,
        )
        self._valid = FixedCrops(
            readers.valid, spread_crops(store.split("valid"), valid_crop_frames, valid_max_crops)
        )
        self._prepared_for: torch.device | None = None
        self._sampler: CropSampler | None = None

    @property
    def speakers(self) -> tuple[str, ...]:
        """Those of the dataset; `store.speaker_index` tells their places in `Batch.speaker`."""
        return self.store.speakers

    @property
    def content_channels(self) -> int:
        """C, the width of `Batch.content`."""
        return self.store.content_channels

    @property
    def batch_size(self) -> int:
        """Training crops per batch and process.

        Raises:
            UserError: it is to be chosen and has not been.
        """
        if self._batch_size is None:
            raise UserError(
                "data.batch_size=auto is decided by svc-train before it trains, which has not "
                "happened. Give a number."
            )
        return self._batch_size

    @property
    def batch_size_is_open(self) -> bool:
        """Whether `choose_batch_size` is still to be called."""
        return self._batch_size is None

    def choose_batch_size(self, batch_size: int) -> None:
        """Decide `batch_size="auto"`. What follows is as if it had been given from the start."""
        _check_positive(batch_size=batch_size)
        self._batch_size = batch_size

    @property
    def crops_per_epoch(self) -> int:
        """As many as the training audio holds, of all processes together; at least 1."""
        return max(self._crops_in_audio, 1)

    @property
    def batches_per_epoch(self) -> int:
        """Training batches of an epoch, per process."""
        return max(self._crops_in_audio // (self.batch_size * self._world_size), 1)

    @property
    def valid_crops(self) -> int:
        """How many validation crops there are; 0 where nothing could be held out."""
        return len(self._valid)

    def set_position(self, batches_seen: int) -> None:
        """Go on after `batches_seen` batches, as counted over all epochs and per process.

        Call it before a pass begins; a pass that is under way is not moved.

        Raises:
            ValueError: the number is negative.
        """
        if batches_seen < 0:
            raise ValueError(f"batches_seen is {batches_seen}")
        self.batches_seen = batches_seen
        if self._sampler is not None:
            self._sampler.position = batches_seen

    def state_dict(self) -> dict[str, Any]:
        """{"batches_seen": int, "batch_size": int, "processes": int}."""
        return {
            "batches_seen": self.batches_seen,
            "batch_size": self.batch_size,
            "processes": self._world_size,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`. A batch size that was given stays; with another one, or
        other processes, training goes on after as many crops, less than a batch of them again."""
        size = int(state_dict.get("batch_size", self._batch_size or 0))
        processes = int(state_dict.get("processes", self._world_size))  # older ones do not tell
        if self.batch_size_is_open:
            self.choose_batch_size(size)
        crops_seen = int(state_dict["batches_seen"]) * size * processes
        self.set_position(crops_seen // (self.batch_size * self._world_size))

    def setup(self, stage: str) -> None:
        """`prepare_for` the Trainer's device (Lightning calls this)."""
        if self.trainer is not None:
            self.prepare_for(self.trainer.strategy.root_device, self.trainer.num_devices)

    def prepare_for(self, device: torch.device, processes: int = 1) -> None:
        """Put the training set where `cache` wants it; once for a device.

        Args:
            device: that trains.
            processes: training processes on this machine.

        Raises:
            UserError: it is to lie on the device and cannot; or a file of it cannot be read.
        """
        if self._prepared_for == device:
            return
        self._prepared_for = device
        readers = self._cached(device=device, processes=processes)
        self._train.reader, self._valid.reader = readers.train, readers.valid

    @property
    def _on_device(self) -> DeviceCache | None:
        """The training set, where it lies on the device."""
        return self._train.reader if isinstance(self._train.reader, DeviceCache) else None

    def _prepare(self) -> None:
        """For whoever uses the loaders without a Trainer."""
        if self._prepared_for is None:
            self.prepare_for(torch.device("cpu"))

    def crops(self, count: int) -> LoadedCrops | CropPlaces:
        """The first `count` training crops of the run, as the loader gives them."""
        self._prepare()
        return self._train.__getitems__(range(count))

    def train_dataloader(self) -> DataLoader[LoadedCrops | CropPlaces]:
        """Training batches from `batches_seen` on; `len` is that of a whole epoch."""
        self._prepare()
        self._sampler = CropSampler(
            self.batch_size, self.batches_per_epoch, self._rank, self._world_size
        )
        self._sampler.position = self.batches_seen
        workers = 0 if self._on_device is not None else self._workers
        return ResumableLoader(
            self._train,
            batch_sampler=self._sampler,
            collate_fn=already_batched,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self._trains_on_cuda,
        )

    def val_dataloader(self) -> DataLoader[LoadedCrops]:
        """Validation batches: the same crops in the same order every time."""
        return DataLoader(
            self._valid,
            batch_size=self._valid_batch_size,
            collate_fn=already_batched,
            pin_memory=self._trains_on_cuda,
        )

    @property
    def _trains_on_cuda(self) -> bool:
        """Whether batches are copied faster from page-locked memory, which a run on the CPU would
        only start up the GPU for."""
        return self._prepared_for is not None and self._prepared_for.type == "cuda"

    def to_batch(self, loaded: LoadedCrops | CropPlaces) -> Batch:
        """What a training step sees, of what a loader gave, on the device that this is on."""
        if isinstance(loaded, CropPlaces):
            if self._on_device is None:
                raise ValueError("places of crops are for a training set that lies on the device")
            loaded = self._on_device.crops_at(loaded)
        return loaded.batch(self._mel.to(loaded.waveform.device))

    def on_after_batch_transfer(
        self, batch: LoadedCrops | CropPlaces, dataloader_idx: int
    ) -> Batch:
        """Make the mels, and count the batches that training takes (Lightning calls this once for
        each, just before its training step; prefetched ones are not counted)."""
        if self.trainer is not None and self.trainer.training:
            self.set_position(self.batches_seen + 1)
        return self.to_batch(batch)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise UserError(f"data.{name}={value} must be at least 1.")
