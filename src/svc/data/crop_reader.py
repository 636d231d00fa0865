"""Crops of stored features, reading only the bytes that they need."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.audio.mel import LOG_FLOOR
from svc.audio.spec import AudioSpec
from svc.data.augmentation.key_shift import EDGE_SAMPLES, played_at
from svc.data.augmentation.loudness import gain_below_clipping
from svc.data.augmentation.parameters import Augmentation, SampleAugmentation
from svc.data.augmentation.time_stretch import MARGIN_SAMPLES, stretched
from svc.data.batch import LoadedCrops
from svc.data.sampling import Crop
from svc.data.store import AUDIO_FULL_SCALE, Feature, FeatureStore, SliceRecord
from svc.data.stored_array import StoredArray
from svc.errors import UserError
from svc.features.interpolation import crop_to_mel_grid

_AS_IT_IS = SampleAugmentation()


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
        augmentation: what may happen to crops. Where it changes the audio, stored mels are left
            aside and made from that.

    Raises:
        UserError: `spec` has another sample rate or hop than the store.
    """

    def __init__(
        self,
        store: FeatureStore,
        slices: Sequence[SliceRecord],
        spec: AudioSpec,
        in_ram: bool = False,
        augmentation: Augmentation | None = None,
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
        augmentation = augmentation or Augmentation()
        mel_fits = store.has_mel and store.spec() == spec
        self._mel_stored = mel_fits and not augmentation.changes_sound
        # Whole hops of context, so that the context's frames lie on the grid too.
        self._margin = 0 if self._mel_stored else -(-spec.pad_samples // spec.hop_samples)
        self._features: list[Feature] = ["audio", "content", "f0", "energy"]
        if self._mel_stored:
            self._features.append("mel")
        if augmentation.perturbed_content.probability > 0:
            self._features.append("variants")
        self._arrays: dict[tuple[int, Feature], StoredArray | NDArray[Any]] = {}
        if in_ram:
            for index in range(len(slices)):
                for feature in self._features:
                    array = self._array(index, feature)
                    self._arrays[index, feature] = array[0 : array.shape[0]]

    @property
    def features(self) -> Sequence[Feature]:
        """What of the store is read."""
        return tuple(self._features)

    @property
    def margin_frames(self) -> int:
        """Frames of context that a crop's audio has on each side."""
        return self._margin

    def whole(self, index: int) -> dict[Feature, NDArray[Any]]:
        """Everything that crops of a slice are made of, as it is stored; the audio [(N + 2 *
        margin_frames) * hop] int16 with the context that it has at the slice's ends.

        Raises:
            UserError: a file of the store is missing or damaged.
        """
        with self._explained(index):
            found: dict[Feature, NDArray[Any]] = {}
            for feature in self._features[1:]:
                array = self._array(index, feature)
                found[feature] = array[0 : array.shape[0]]
            frames, margin = self._slices[index].frames, self._margin
            audio = np.zeros((frames + 2 * margin) * self._spec.hop_samples, dtype=np.float32)
            start = -margin * self._spec.hop_samples
            self._read_audio(audio, index, start, mirrored_ends=margin > 0)
            found["audio"] = audio.astype(np.int16)
            return found

    def read(
        self, crops: Sequence[Crop], augmented: Sequence[SampleAugmentation] | None = None
    ) -> LoadedCrops:
        """The crops, padded at the end to the length of the longest: zeros, unvoiced.

        Args:
            augmented: what happens to each of them, within what `augmentation` allows.

        Raises:
            UserError: a file of the store is missing or damaged.
            ValueError: `augmentation` does not allow what is to happen.
        """
        samples = augmented or [_AS_IT_IS] * len(crops)
        if self._mel_stored and any(sample.changes_sound for sample in samples):
            raise ValueError("stored mels are not those of audio that augmentation has changed")
        frames = max(crop.frames for crop in crops)
        count, hop, margin = len(crops), self._spec.hop_samples, self._margin
        content = np.zeros((count, frames, self._store.content_channels), dtype=np.float32)
        f0 = np.zeros((count, frames), dtype=np.float32)
        energy = np.zeros((count, frames), dtype=np.float32)
        audio = np.zeros((count, (frames + 2 * margin) * hop), dtype=np.float32)
        lengths = np.empty(count, dtype=np.int64)
        for row, (crop, sample) in enumerate(zip(crops, samples, strict=True)):
            with self._explained(crop.slice_index):
                lengths[row] = self._read_crop(
                    crop, sample, content[row], f0[row], energy[row], audio[row]
                )
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
            key_shift_semitones=torch.tensor(
                [sample.key_shift_semitones for sample in samples], dtype=torch.float32
            ),
        )

    @contextmanager
    def _explained(self, index: int) -> Iterator[None]:
        """Say which slice cannot be read, and what to do."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise UserError(
                f"The features of slice {self._slices[index].id} in {self._store.folder} cannot "
                f"be read ({error}). Delete that folder and prepare the dataset again."
            ) from error

    def _read_crop(
        self,
        crop: Crop,
        sample: SampleAugmentation,
        content: NDArray[np.float32],
        f0: NDArray[np.float32],
        energy: NDArray[np.float32],
        audio: NDArray[np.float32],
    ) -> int:
        """Fill one row of each array; how many frames of them are valid."""
        index, first = crop.slice_index, crop.first_frame
        available = int((self._slices[index].frames - first) / sample.speed + 1e-9)
        valid = min(crop.frames, max(available, 1))
        sounding = audio[: (valid + 2 * self._margin) * self._spec.hop_samples]
        # A StoredArray offers what the interpolation needs of an array: shape and spans.
        rows: Any = self._content(index, sample.content_variant)
        content[:valid] = crop_to_mel_grid(
            rows, self._store.meta.content_grid, self._spec, valid, first, sample.speed
        )
        if sample.speed == 1.0:
            f0[:valid] = self._array(index, "f0")[first : first + valid]
            energy[:valid] = self._array(index, "energy")[first : first + valid]
            start = (first - self._margin) * self._spec.hop_samples
            self._read_audio(sounding, index, start, mirrored_ends=self._margin > 0)
        else:
            f0[:valid], energy[:valid] = self._at_speed(index, first, valid, sample)
            self._read_audio_at_speed(sounding, index, first, sample)
        if sample.changes_sound:
            gain = gain_below_clipping(sample.gain_db, sounding / AUDIO_FULL_SCALE)
            sounding *= gain
            energy[:valid] *= gain
        return valid

    def _content(self, index: int, variant: int) -> StoredArray | NDArray[Any]:
        """[N', C] of a slice, perturbed or, for variant 0, as it is."""
        if variant == 0:
            return self._array(index, "content")
        variants = self._array(index, "variants")
        if isinstance(variants, StoredArray):
            return variants.part(variant - 1)
        part: NDArray[Any] = variants[variant - 1]
        return part

    def _at_speed(
        self, index: int, first: int, frames: int, sample: SampleAugmentation
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """F0, negative where unvoiced as it is stored, and energy, [frames] each."""
        arrays = self._array(index, "f0"), self._array(index, "energy")
        places = first + (np.arange(frames) + 0.5) * sample.speed - 0.5
        places = places.clip(0, self._slices[index].frames - 1)
        start, stop = int(places[0]), int(np.ceil(places[-1])) + 1
        f0, energy = (np.asarray(array[start:stop]) for array in arrays)
        own = np.arange(start, stop)
        # Interpolated through unvoiced frames, F0 is continuous; voicing is the nearest frame's.
        f0_hz = np.interp(places, own, np.abs(f0)) * sample.pitch_ratio
        voiced = f0[np.rint(places).astype(np.int64) - start] > 0
        signed = np.where(voiced, f0_hz, -f0_hz).astype(np.float32)
        return signed, np.interp(places, own, energy).astype(np.float32)

    def _read_audio_at_speed(
        self,
        row: NDArray[np.float32],
        index: int,
        first: int,
        sample: SampleAugmentation,
    ) -> None:
        """Fill `row` with the audio from the margin before frame `first` on, at a speed."""
        edge = EDGE_SAMPLES
        beyond = 1
        if sample.rate != 1.0:  # the stretch fades in, before or after which pitch is shifted down
            edge += 2 * MARGIN_SAMPLES
            beyond += MARGIN_SAMPLES
        hop, wanted = self._spec.hop_samples, len(row) + 2 * edge
        start = math.floor(first * hop - sample.speed * (self._margin * hop + edge))
        before_shift = math.ceil(wanted * sample.pitch_ratio) + 1
        source = np.zeros(math.ceil(before_shift * sample.rate) + beyond, dtype=np.float32)
        self._read_audio(source, index, start, mirrored_ends=True)
        source = stretched(source, sample.rate, before_shift)
        row[:] = played_at(source, sample.pitch_ratio, wanted)[edge : edge + len(row)]

    def _read_audio(
        self, row: NDArray[np.float32], index: int, wanted_start: int, mirrored_ends: bool
    ) -> None:
        """Fill `row`, which is zeros, with the slice's audio from sample `wanted_start` on."""
        stored = self._array(index, "audio")
        samples = stored.shape[0]
        wanted_stop = wanted_start + len(row)
        start, stop = max(wanted_start, 0), min(wanted_stop, samples)
        if start >= stop:
            return
        left, right = start - wanted_start, wanted_stop - stop
        row[left : left + stop - start] = stored[start:stop]
        if not mirrored_ends or not (left or right):
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
