"""Training and validation crops as torch datasets that give whole batches."""

from collections.abc import Sequence
from typing import Any, cast

from torch.utils.data import Dataset

from svc.data.augmentation.parameters import AugmentationDraw, SampleAugmentation
from svc.data.batch import LoadedCrops
from svc.data.crop_reader import CropReader
from svc.data.sampling import Crop, CropDraw


class CropDataset(Dataset[LoadedCrops]):
    """Random crops: sample k is the same crop, changed alike, in every run of the same seed.

    Args:
        reader: reads crops of the slices that `draw` draws from.
        draw: which crop a sample is.
        samples: length of an epoch, in samples.
        augmentation: what happens to a sample; None for nothing.
    """

    def __init__(
        self,
        reader: CropReader,
        draw: CropDraw,
        samples: int,
        augmentation: AugmentationDraw | None = None,
    ) -> None:
        self._reader = reader
        self._augmentation = augmentation
        self._draw = draw
        self._samples = samples

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, sample: int) -> LoadedCrops:
        """The sample as a batch of one. Numbers go on beyond the length, into later epochs."""
        return self.__getitems__([sample])

    def __getitems__(self, samples: Sequence[int]) -> LoadedCrops:
        """Several samples as one batch, which saves collating them (the loader calls this)."""
        first, count = samples[0], len(samples)
        if list(samples) == list(range(first, first + count)):
            return self._reader.read(*self._drawn(first, count))
        one_by_one = [self._drawn(sample, 1) for sample in samples]
        crops = [crop for crops, _ in one_by_one for crop in crops]
        augmented = [sample for _, drawn in one_by_one for sample in drawn or ()]
        return self._reader.read(crops, augmented or None)

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
        self._reader = reader
        self._crops = list(crops)

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, index: int) -> LoadedCrops:
        """One crop as a batch of one."""
        return self._reader.read([self._crops[index]])

    def __getitems__(self, indices: Sequence[int]) -> LoadedCrops:
        """Several crops as one batch, padded at the end to the longest of them."""
        return self._reader.read([self._crops[index] for index in indices])


def already_batched(batch: Any) -> LoadedCrops:
    """Collate function for these datasets, which give batches themselves."""
    return cast(LoadedCrops, batch)
