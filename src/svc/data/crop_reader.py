"""Crops of stored features, reading only the bytes that they need."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.audio.mel import LOG_FLOOR
from svc.audio.spec import AudioSpec
from svc.data.batch import LoadedCrops
from svc.data.sampling import Crop
from svc.data.store import AUDIO_FULL_SCALE, Feature, FeatureStore, SliceRecord
from svc.errors import UserError
from svc.features.interpolation import crop_to_mel_grid


@dataclass(frozen=True)
class StoredArray:
    """An array in a .npy file, of which spans are read by one system call each.

    Opening, reading and closing costs about 7 µs on a warm cache; a memory map costs more to set
    up for each crop, and kept open, thousands of slices exceed the limit on open files.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    row_bytes: int
    offset_bytes: int
    """Where the first row begins in the file."""

    @classmethod
    def of(cls, path: Path) -> "StoredArray":
        """Read the header of a .npy file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not a .npy file, or a transposed one.
        """
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"version {version} of the npy format")
            shape, transposed, dtype = np.lib.format.read_array_header_1_0(file)
            if transposed:
                raise ValueError("in Fortran order")
            row_bytes = dtype.itemsize * math.prod(shape[1:])
            return cls(str(path), shape, dtype, row_bytes, file.tell())

    def __getitem__(self, span: slice) -> NDArray[Any]:
        """Rows [span.start, span.stop), both given and within the array.

        Raises:
            ValueError: the file has become shorter.
        """
        start, stop = int(span.start), int(span.stop)
        offset_bytes = self.offset_bytes + start * self.row_bytes
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            content = os.pread(descriptor, (stop - start) * self.row_bytes, offset_bytes)
        finally:
            os.close(descriptor)
        rows = np.frombuffer(content, self.dtype)
        return rows.reshape(stop - start, *self.shape[1:]) if len(self.shape) > 1 else rows


class CropReader:
    """Reads crops of a store's slices.

    The mel of a crop is to equal the same span of its whole slice's mel: where mels are not stored,
    the crop's audio is read with as much of its surroundings as the analysis window reaches over,
    and mirrored only at the slice's own ends.

    B crops, N frames (of the longest crop), C content channels, M mel bins.

    Args:
        store: the prepared dataset.
        slices: the slices that crops count from.
        spec: framing and mel range. Stored mels are used where they have this range.
        in_ram: read everything once and keep it as it is stored (about 7 MB per minute).

    Raises:
        UserError: `spec` has another sample rate or hop than the store.
    """

    def __init__(
        self,
        store: FeatureStore,
        slices: Sequence[SliceRecord],
        spec: AudioSpec,
        in_ram: bool = False,
    ) -> None:
        stored = store.meta.settings.audio
        wanted = {"sample_rate_hz": spec.sample_rate_hz, "hop_samples": spec.hop_samples}
        if stored != wanted:
            raise UserError(
                f"The prepared dataset {store.folder} has the framing {stored} and audio wants "
                f"{wanted}. Prepare it again with these audio settings."
            )
        self._store = store
        self._slices = slices
        self._spec = spec
        self._speakers = [store.speaker_index(record.speaker) for record in slices]
        self._mel_stored = store.has_mel and store.spec() == spec
        # Whole hops of context, so that the context's frames lie on the grid too.
        self._margin_frames = -(-spec.pad_samples // spec.hop_samples)
        self._arrays: dict[tuple[int, Feature], StoredArray | NDArray[Any]] = {}
        if in_ram:
            features: list[Feature] = ["audio", "content", "f0", "energy"]
            if self._mel_stored:
                features.append("mel")
            for index in range(len(slices)):
                for feature in features:
                    array = self._array(index, feature)
                    self._arrays[index, feature] = array[0 : array.shape[0]]

    def read(self, crops: Sequence[Crop]) -> LoadedCrops:
        """The crops, padded at the end to the length of the longest: zeros, unvoiced.

        Raises:
            UserError: a file of the store is missing or damaged.
        """
        frames = max(crop.frames for crop in crops)
        count, hop = len(crops), self._spec.hop_samples
        margin = 0 if self._mel_stored else self._margin_frames
        content = np.zeros((count, frames, self._store.content_channels), dtype=np.float32)
        f0 = np.zeros((count, frames), dtype=np.float32)
        energy = np.zeros((count, frames), dtype=np.float32)
        audio = np.zeros((count, (frames + 2 * margin) * hop), dtype=np.float32)
        lengths = np.empty(count, dtype=np.int64)
        for row, crop in enumerate(crops):
            available = self._slices[crop.slice_index].frames - crop.first_frame
            valid = lengths[row] = min(crop.frames, available)
            first, last = crop.first_frame, crop.first_frame + valid
            try:
                # A StoredArray offers what the interpolation needs of an array: shape and spans.
                rows: Any = self._array(crop.slice_index, "content")
                content[row, :valid] = crop_to_mel_grid(
                    rows,
                    self._store.meta.content_grid,
                    self._spec,
                    valid,
                    first,
                )
                f0[row, :valid] = self._array(crop.slice_index, "f0")[first:last]
                energy[row, :valid] = self._array(crop.slice_index, "energy")[first:last]
                self._read_audio(audio[row], crop.slice_index, first, valid, margin)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"The features of slice {self._slices[crop.slice_index].id} in "
                    f"{self._store.folder} cannot be read ({error}). Delete that folder and "
                    f"prepare the dataset again."
                ) from error
        audio *= np.float32(1 / AUDIO_FULL_SCALE)
        return LoadedCrops(
            waveform=torch.from_numpy(audio),
            margin_frames=margin,
            mel=self._stored_mels(crops, lengths, frames) if self._mel_stored else None,
            content=torch.from_numpy(content),
            f0_hz=torch.from_numpy(np.abs(f0)),
            voiced=torch.from_numpy(f0 > 0),
            energy=torch.from_numpy(energy),
            lengths_frames=torch.from_numpy(lengths),
            speaker=torch.tensor([self._speakers[crop.slice_index] for crop in crops]),
            key_shift_semitones=torch.zeros(count),
        )

    def _read_audio(
        self, row: NDArray[np.float32], index: int, first: int, frames: int, margin: int
    ) -> None:
        """Fill `row` with `frames` frames from `first` on, and `margin` frames on both sides."""
        hop = self._spec.hop_samples
        stored = self._array(index, "audio")
        samples = stored.shape[0]
        wanted_start, wanted_stop = (first - margin) * hop, (first + frames + margin) * hop
        start, stop = max(wanted_start, 0), min(wanted_stop, samples)
        left, right = start - wanted_start, wanted_stop - stop
        row[left : left + stop - start] = stored[start:stop]
        if not margin or not (left or right):
            return
        # As MelSpectrogram does: mirrored at the slice's end as far as the analysis window reaches
        # over it (or the slice is long), zeros beyond.
        reach = min(self._spec.pad_samples, samples - 1)
        if left:
            mirrored = stored[1 : 1 + min(reach, left)]
            row[left - len(mirrored) : left] = mirrored[::-1]
        if right:
            mirrored = stored[samples - 1 - min(reach, right) : samples - 1]
            end = left + stop - start
            row[end : end + len(mirrored)] = mirrored[::-1]

    def _stored_mels(
        self, crops: Sequence[Crop], lengths: NDArray[np.int64], frames: int
    ) -> Tensor:
        """[B, M, N]."""
        floor = float(np.log(LOG_FLOOR))
        mels = np.full((len(crops), frames, self._spec.mel_bins), floor, dtype=np.float32)
        for row, crop in enumerate(crops):
            last = crop.first_frame + int(lengths[row])
            mels[row, : lengths[row]] = self._array(crop.slice_index, "mel")[
                crop.first_frame : last
            ]
        return torch.from_numpy(mels).transpose(1, 2).contiguous()

    def _array(self, index: int, feature: Feature) -> StoredArray | NDArray[Any]:
        key = (index, feature)
        array = self._arrays.get(key)
        if array is None:
            array = StoredArray.of(self._store.path(self._slices[index], feature))
            self._arrays[key] = array
        return array
