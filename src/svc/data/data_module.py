"""Batches for training and validation, resumable at any batch."""

from typing import Any, Literal

import lightning
import torch
from torch.utils.data import DataLoader

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.augmentation.parameters import Augmentation, AugmentationDraw
from svc.data.batch import Batch, LoadedCrops
from svc.data.crop_reader import CropReader
from svc.data.dataset import CropDataset, FixedCrops, already_batched
from svc.data.sampling import CropDraw, CropSampler, spread_crops
from svc.data.store import FeatureStore
from svc.errors import UserError


class SvcDataModule(lightning.LightningDataModule):
    """Crops of a prepared dataset.

    An epoch is as many crops as the training audio holds (at least one batch). Which crops the
    batch number k of a run holds is a function of the seed alone, so a run that resumes at batch k
    goes on with exactly the batches that it would have seen:

    - `batches_seen` counts the batches that a Trainer has taken, over all epochs. It is part of
      `state_dict`, which Lightning puts into every checkpoint and gives back before it resumes.
    - Every pass over the training loader begins at `batches_seen` and ends with the epoch in which
      that lies. The loader's `len` is always that of a whole epoch, also where a pass is shorter.
    - Without a Trainer, `set_position` moves it; passes alone do not.

    A Trainer needs `use_distributed_sampler=False`: with several processes each already draws its
    own samples.

    The loaders give `LoadedCrops`; a Trainer's steps see a `Batch`, whose mel was made on the
    training device.

    Args:
        store: the prepared dataset.
        spec: framing and mel range of the training.
        batch_size: crops per batch and process.
        crop_frames: N of a training crop. Shorter slices are padded at the end.
        seed: decides which crops are drawn.
        workers: processes that load; 0 loads in the training process.
        balanced_speakers: draw every speaker equally often rather than by its minutes.
        cache: "ram" keeps the dataset in memory as it is stored (about 7 MB per minute).
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
        batch_size: int = 32,
        crop_frames: int = 32,
        seed: int = 0,
        workers: int = 2,
        balanced_speakers: bool = False,
        cache: Literal["none", "ram"] = "none",
        augmentation: Augmentation | None = None,
        valid_crop_frames: int = 256,
        valid_max_crops: int = 64,
        valid_batch_size: int = 4,
    ) -> None:
        super().__init__()
        _check_positive(
            batch_size=batch_size,
            crop_frames=crop_frames,
            valid_crop_frames=valid_crop_frames,
            valid_max_crops=valid_max_crops,
            valid_batch_size=valid_batch_size,
        )
        if cache not in ("none", "ram"):
            raise UserError(f"data.cache={cache!r} is unknown. Choose none or ram.")
        if workers < 0 or seed < 0:
            raise UserError(f"data.workers={workers} and data.seed={seed} must not be negative.")
        self.store = store
        self.spec = spec
        self.batch_size = batch_size
        self.batches_seen = 0
        self._mel = MelSpectrogram(spec)
        self._workers = workers
        self._valid_batch_size = valid_batch_size

        train = store.split("train")
        if not train:
            raise UserError(f"The prepared dataset {store.folder} holds no slice to train on.")
        samples = max(sum(record.frames for record in train) // crop_frames, batch_size)
        self._train = CropDataset(
            CropReader(store, train, spec, cache == "ram", augmentation),
            CropDraw(train, crop_frames, seed, balanced_speakers),
            samples,
            _augmentation_draw(store, augmentation, seed),
        )
        valid = store.split("valid")
        self._valid = FixedCrops(
            CropReader(store, valid, spec, in_ram=cache == "ram"),
            spread_crops(valid, valid_crop_frames, valid_max_crops),
        )
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
    def batches_per_epoch(self) -> int:
        """Training batches of an epoch, per process."""
        return max(len(self._train) // (self.batch_size * self._world_size), 1)

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
        """{"batches_seen": int}."""
        return {"batches_seen": self.batches_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.set_position(int(state_dict["batches_seen"]))

    def train_dataloader(self) -> DataLoader[LoadedCrops]:
        """Training batches from `batches_seen` on; `len` is that of a whole epoch."""
        self._sampler = CropSampler(
            self.batch_size, self.batches_per_epoch, self._rank, self._world_size
        )
        self._sampler.position = self.batches_seen
        return _ResumableLoader(
            self._train,
            batch_sampler=self._sampler,
            collate_fn=already_batched,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[LoadedCrops]:
        """Validation batches: the same crops in the same order every time."""
        return DataLoader(
            self._valid,
            batch_size=self._valid_batch_size,
            collate_fn=already_batched,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: LoadedCrops, dataloader_idx: int) -> Batch:
        """Make the mels, and count the batches that training takes (Lightning calls this once for
        each, just before its training step; prefetched ones are not counted)."""
        if self.trainer is not None and self.trainer.training:
            self.set_position(self.batches_seen + 1)
        return batch.batch(self._mel.to(batch.waveform.device))

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1


class _ResumableLoader(DataLoader[LoadedCrops]):
    """Tells Lightning, which warns otherwise, that training may go on within an epoch.

    The position itself is kept by `SvcDataModule`, whose state Lightning restores first.
    """

    batch_sampler: CropSampler

    def state_dict(self) -> dict[str, Any]:
        return {"batches_seen": self.batch_sampler.position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batch_sampler.position = int(state_dict["batches_seen"])


def _augmentation_draw(
    store: FeatureStore, augmentation: Augmentation | None, seed: int
) -> AugmentationDraw | None:
    if augmentation is None or not augmentation.active:
        return None
    probability, variants = augmentation.perturbed_content.probability, store.content_variants
    if probability > 0 and variants == 0:
        raise UserError(
            f"data.augmentation.perturbed_content.probability={probability} takes content that the "
            f"prepared dataset {store.folder} does not hold. Run svc-preprocess with the settings "
            f"of this run and augmentation=default (it extracts only what is missing), or set "
            f"augmentation.online.perturbed_content.probability=0."
        )
    return AugmentationDraw(augmentation, seed, variants)


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise UserError(f"data.{name}={value} must be at least 1.")
