"""Which crop of which slice is trained on when: a pure function of the seed and a running number.

Sample k of a training run is the same crop whatever the batch size, the number of loading workers
and the number of times the run was stopped and resumed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from svc.data.store import SliceRecord

_WORDS_PER_SAMPLE = 4
"""Philox gives four 64-bit words for each value of its counter: one counter value per sample."""


@dataclass(frozen=True)
class Crop:
    """A span of one slice."""

    slice_index: int
    """Place of the slice in the list that crops are drawn from."""
    first_frame: int
    frames: int
    """May reach beyond the slice's end; what is missing is padding."""


class CropDraw:
    """Draws crops at random: a slice by its length, then a place within it.

    Every frame of the training audio is about equally likely. Numbers come from the counter-based
    generator Philox4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), whose
    k-th output needs none of those before it.

    Args:
        slices: what is drawn from, at least one.
        crop_frames: length of a crop. Shorter slices are drawn whole.
        seed: any integer from 0 to 2^64 - 1.
        balanced_speakers: draw the speaker first, all alike, so that one with little material is
            seen as often as the others.

    Raises:
        ValueError: there is no slice, or crop_frames is less than 1.
    """

    def __init__(
        self,
        slices: Sequence[SliceRecord],
        crop_frames: int,
        seed: int,
        balanced_speakers: bool = False,
    ) -> None:
        if not slices or crop_frames < 1:
            raise ValueError(f"cannot draw {crop_frames} frames from {len(slices)} slices")
        self.crop_frames = crop_frames
        self._frames = np.array([record.frames for record in slices], dtype=np.int64)
        self._seed = seed
        weights = self._frames.astype(np.float64)
        if balanced_speakers:
            speakers = np.array([record.speaker for record in slices])
            for speaker in np.unique(speakers):
                mine = speakers == speaker
                weights[mine] /= weights[mine].sum()
        self._cumulative = np.cumsum(weights)

    def crops(self, first: int, count: int, speeds: Sequence[float] | None = None) -> list[Crop]:
        """The crops of the samples first, first + 1, ..., first + count - 1.

        Args:
            speeds: [count], frames of the slice that each frame of the crop takes, where that is
                not one. The slice does not depend on it, its place does.
        """
        generator = np.random.Philox(key=self._seed, counter=first)
        words = generator.random_raw(_WORDS_PER_SAMPLE * count).reshape(count, _WORDS_PER_SAMPLE)
        which, where = uniform(words[:, 0]), uniform(words[:, 1])
        indices = np.searchsorted(self._cumulative, which * self._cumulative[-1], side="right")
        indices = np.minimum(indices, len(self._frames) - 1)  # rounding at the upper end
        taken = np.ceil(self.crop_frames * np.asarray(1.0 if speeds is None else speeds))
        places = np.maximum(self._frames[indices] - taken.astype(np.int64), 0) + 1
        starts = np.minimum((where * places).astype(np.int64), places - 1)
        return [
            Crop(int(index), int(start), self.crop_frames)
            for index, start in zip(indices, starts, strict=True)
        ]


class CropSampler(Sampler[list[int]]):
    """Batches of running sample numbers, from any position on.

    A pass over it gives the batches that are left of the epoch in which `position` lies; `len` is
    always the whole epoch's. Whoever trains moves `position` (`SvcDataModule` does).

    Args:
        batch_size: samples in a batch, of this process.
        batches_per_epoch: at least 1.
        rank, world_size: this process among those that train together; each sees other samples.
    """

    def __init__(
        self, batch_size: int, batches_per_epoch: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.position = 0
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[list[int]]:
        begin = self.position
        end = (begin // self.batches_per_epoch + 1) * self.batches_per_epoch
        for batch in range(begin, end):
            first = (batch * self._world_size + self._rank) * self.batch_size
            yield list(range(first, first + self.batch_size))

    def __len__(self) -> int:
        return self.batches_per_epoch


def spread_crops(slices: Sequence[SliceRecord], crop_frames: int, max_crops: int) -> list[Crop]:
    """Fixed crops for validation: the middle of at most `max_crops` slices, evenly chosen.

    Args:
        slices: what is chosen from; may be empty.
        crop_frames: longest crop; a shorter slice is taken whole.
        max_crops: at least 1.
    """
    chosen = np.unique(np.linspace(0, len(slices) - 1, min(max_crops, len(slices))).astype(int))
    crops = []
    for index in chosen:
        frames = min(slices[index].frames, crop_frames)
        crops.append(Crop(int(index), (slices[index].frames - frames) // 2, frames))
    return crops


def uniform(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """64 random bits -> [0, 1), from the upper 53."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
