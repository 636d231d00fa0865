"""What crops are cut from: the features of slices, read in spans from files or kept in RAM."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.augmentation.parameters import Augmentation
from svc.data.store import AUDIO_FULL_SCALE, Feature, FeatureStore, SliceRecord
from svc.data.stored_array import StoredArray
from svc.errors import UserError


@dataclass(frozen=True)
class CropParts:
    """What crops are made of, and how they come to their mel."""

    features: tuple[Feature, ...]
    """Read or kept of each slice; the audio first."""
    mel_is_made: bool
    """Whether the mel among `features` is not that of the store, but made of a whole slice."""
    margin_frames: int
    """Frames of context that a crop's audio needs on each side, because its mel is yet to be made;
    0 where that is among `features`."""

    @classmethod
    def of(
        cls,
        store: FeatureStore,
        spec: AudioSpec,
        augmentation: Augmentation | None,
        kept: bool,
    ) -> "CropParts":
        """Stored mels are taken where they have the range of `spec`, and audio stays as it is.

        Args:
            kept: the features stay in memory, so that a mel that is not stored is better made once
                than for every crop.
        """
        augmentation = augmentation or Augmentation()
        features: list[Feature] = ["audio", "content", "f0", "energy"]
        stored = store.has_mel and store.spec() == spec
        mel_holds = (stored or kept) and not augmentation.changes_sound
        if mel_holds:
            features.append("mel")
        if augmentation.perturbed_content.probability > 0:
            features.append("variants")
        # Whole hops of context, so that the context's frames lie on the grid too.
        margin = 0 if mel_holds else -(-spec.pad_samples // spec.hop_samples)
        return cls(tuple(features), mel_holds and not stored, margin)

    def frame_bytes(self, spec: AudioSpec) -> int:
        """What a frame of a slice takes in memory, but for content, which has frames of its own."""
        mel_bytes = (4 if self.mel_is_made else 2) * spec.mel_bins if "mel" in self.features else 0
        return 2 * spec.hop_samples + 4 + 4 + mel_bytes


class SliceArrays:
    """The arrays of a store's slices.

    Args:
        store: the prepared dataset.
        slices: that indices count.
        spec: framing and mel range.
        parts: which arrays there are.
        in_ram: read everything at once and keep it.

    Raises:
        UserError: a file of the store is missing or damaged.
    """

    def __init__(
        self,
        store: FeatureStore,
        slices: Sequence[SliceRecord],
        spec: AudioSpec,
        parts: CropParts,
        in_ram: bool = False,
    ) -> None:
        self.parts = parts
        self._store = store
        self._slices = slices
        self._hop, self._pad = spec.hop_samples, spec.pad_samples
        self._mel_of = MelSpectrogram(spec) if parts.mel_is_made else None
        self._arrays: dict[tuple[int, Feature], StoredArray | NDArray[Any]] = {}
        if in_ram:
            for index in range(len(slices)):
                with self.explained(index):
                    for feature in parts.features:
                        self._arrays[index, feature] = self._whole(index, feature)

    def get(self, index: int, feature: Feature) -> StoredArray | NDArray[Any]:
        """A feature of a slice, of which spans can be taken.

        Raises:
            OSError, ValueError: see `explained`.
        """
        array = self._arrays.get((index, feature))
        if array is None:
            array = StoredArray.of(self._store.path(self._slices[index], feature))
            self._arrays[index, feature] = array
        return array

    def read_audio(
        self, row: NDArray[np.float32], index: int, wanted_start: int, mirrored_ends: bool
    ) -> None:
        """Fill `row`, which is zeros, with a slice's audio from sample `wanted_start` on.

        Args:
            row: [T], at the scale of int16.
            index: of the slice.
            wanted_start: may lie before the slice's first sample.
            mirrored_ends: beyond the ends, mirror the audio as `MelSpectrogram` does.

        Raises:
            OSError, ValueError: see `explained`.
        """
        stored = self.get(index, "audio")
        samples = stored.shape[0]
        wanted_stop = wanted_start + len(row)
        start, stop = max(wanted_start, 0), min(wanted_stop, samples)
        if start >= stop:
            return
        left, right = start - wanted_start, wanted_stop - stop
        row[left : left + stop - start] = stored[start:stop]
        if not mirrored_ends or not (left or right):
            return
        # Mirrored as far as the analysis window reaches over the end (or the slice is long), zeros
        # beyond.
        reach = min(self._pad, samples - 1)
        if left:
            mirrored = stored[1 : 1 + min(reach, left)]
            row[left - len(mirrored) : left] = mirrored[::-1]
        if right:
            mirrored = stored[samples - 1 - min(reach, right) : samples - 1]
            end = left + stop - start
            row[end : end + len(mirrored)] = mirrored[::-1]

    def whole(self, index: int) -> dict[Feature, NDArray[Any]]:
        """All that crops of a slice are made of, as it is stored; the audio, [(N + 2 *
        margin_frames) * hop] int16, with the context that it has at the slice's ends; a mel that is
        made, [N, M] float32.

        Raises:
            UserError: a file of the store is missing or damaged.
        """
        with self.explained(index):
            found = {feature: self._whole(index, feature) for feature in self.parts.features[1:]}
            found["audio"] = self._audio_with_context(index)
            return found

    def _audio_with_context(self, index: int) -> NDArray[np.int16]:
        margin = self.parts.margin_frames
        if margin == 0:
            return self._whole(index, "audio")
        audio = np.zeros((self._slices[index].frames + 2 * margin) * self._hop, dtype=np.float32)
        self.read_audio(audio, index, -margin * self._hop, mirrored_ends=True)
        return audio.astype(np.int16)

    def _whole(self, index: int, feature: Feature) -> NDArray[Any]:
        if feature == "mel" and self._mel_of is not None:
            return self._made_mel(index, self._mel_of)
        array = self.get(index, feature)
        return array[0 : array.shape[0]]

    def _made_mel(self, index: int, mel_of: MelSpectrogram) -> NDArray[np.float32]:
        audio = self._whole(index, "audio").astype(np.float32)
        audio *= np.float32(1 / AUDIO_FULL_SCALE)
        mel: NDArray[np.float32] = mel_of(torch.from_numpy(audio)).T.contiguous().numpy()
        return mel

    @contextmanager
    def explained(self, index: int) -> Iterator[None]:
        """Say which slice cannot be read, and what to do.

        Raises:
            UserError: an OSError or a ValueError was raised within.
        """
        try:
            yield
        except (OSError, ValueError) as error:
            raise UserError(
                f"The features of slice {self._slices[index].id} in {self._store.folder} cannot "
                f"be read ({error}). Delete that folder and prepare the dataset again."
            ) from error
