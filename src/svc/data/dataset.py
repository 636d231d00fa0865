"""Training and validation crops as torch datasets that give whole batches."""

import os
import signal
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from torch.utils.data import DataLoader, Dataset

from svc.data.augmentation.parameters import (
    Augmentation,
    AugmentationDraw,
    SampleAugmentation,
)
from svc.data.batch import CropPlaces, LoadedCrops
from svc.data.crop_reader import CropReader
from svc.data.sampling import Crop, CropDraw
from svc.data.store import FeatureStore
from svc.errors import UserError


class CropSource(Protocol):
    """Makes a batch of crops, or says where they lie."""

    def read(
        self, crops: Sequence[Crop], augmented: Sequence[SampleAugmentation] | None = None
    ) -> LoadedCrops | CropPlaces:
        """The crops, each with what happens to it."""


class CropDataset(Dataset[LoadedCrops | CropPlaces]):
    """Random crops: sample k is the same crop, changed alike, in every run of the same seed. There
    is no last one.

    Args:
        reader: reads crops of the slices that `draw` draws from.
        draw: which crop a sample is.
        augmentation: what happens to a sample; None for nothing.
        repeat_after: the samples begin again after so many; None for never.
    """

    def __init__(
        self,
        reader: CropSource,
        draw: CropDraw,
        augmentation: AugmentationDraw | None = None,
        repeat_after: int | None = None,
    ) -> None:
        self.reader = reader
        self._repeat_after = repeat_after
        self._augmentation = augmentation
        self._draw = draw

    def __getitem__(self, sample: int) -> LoadedCrops | CropPlaces:
        """The sample as a batch of one."""
        return self.__getitems__([sample])

    def __getitems__(self, samples: Sequence[int]) -> LoadedCrops | CropPlaces:
        """Several samples as one batch, which saves collating them (the loader calls this)."""
        if self._repeat_after is not None:
            samples = [sample % self._repeat_after for sample in samples]
        first, count = samples[0], len(samples)
        if list(samples) == list(range(first, first + count)):
            return self.reader.read(*self._drawn(first, count))
        one_by_one = [self._drawn(sample, 1) for sample in samples]
        crops = [crop for crops, _ in one_by_one for crop in crops]
        augmented = [sample for _, drawn in one_by_one for sample in drawn or ()]
        return self.reader.read(crops, augmented or None)

    def _drawn(self, first: int, count: int) -> tuple[list[Crop], list[SampleAugmentation] | None]:
        """Crops of the samples from `first` on, and what happens to each."""
        if self._augmentation is None:
            return self._draw.crops(first, count), None
        augmented = self._augmentation.samples(first, count)
        speeds = [sample.speed for sample in augmented]
        return self._draw.crops(first, count, speeds), augmented


class FixedCrops(Dataset[LoadedCrops]):
    """The same crops in the same order every time, for validation.

    Args:
        reader: reads the crops.
        crops: what to read.
    """

    def __init__(self, reader: CropReader, crops: Sequence[Crop]) -> None:
        self.reader = reader
        self._crops = list(crops)

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, index: int) -> LoadedCrops:
        """One crop as a batch of one."""
        return self.reader.read([self._crops[index]])

    def __getitems__(self, indices: Sequence[int]) -> LoadedCrops:
        """Several crops as one batch, padded at the end to the longest of them."""
        return self.reader.read([self._crops[index] for index in indices])


def already_batched(batch: Any) -> Any:
    """Collate function for these datasets, which give batches themselves."""
    return batch


class ResumableLoader(DataLoader[LoadedCrops | CropPlaces]):
    """A loader that a run may go on with within an epoch, whose workers outlast signals to end.

    Its state, which is empty, tells Lightning so, which warns otherwise: the position is kept by
    `SvcDataModule`.

    Args:
        dataset: gives whole batches.
        options: of `DataLoader`.
    """

    def __init__(self, dataset: Dataset[LoadedCrops | CropPlaces], **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=_outlast_signals, **options)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def _outlast_signals(worker: int) -> None:
    """Terminals, batch systems and whoever watches over several processes send SIGINT and SIGTERM
    to the workers too. The process that trains still needs them, to complete its update and save;
    it ends them, by SIGTERM where it comes to an end in an unusual way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # which tells who sent it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_await_end, args=(os.getppid(),), daemon=True).start()


def _await_end(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def augmentation_draw(
    store: FeatureStore, augmentation: Augmentation | None, seed: int
) -> AugmentationDraw | None:
    """What happens to the samples of a prepared dataset; None where nothing can.

    Raises:
        UserError: perturbed content is wanted that the dataset does not hold.
    """
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
