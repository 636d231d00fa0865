"""Crops of stored features, reading only the bytes that they need."""

import math
from collections.abc import Sequence
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
from svc.data.slice_arrays import CropParts, SliceArrays
from svc.data.store import AUDIO_FULL_SCALE, FeatureStore, SliceRecord
from svc.data.stored_array import StoredArray
from svc.errors import UserError
from svc.features.interpolation import crop_to_mel_grid

_AS_IT_IS = SampleAugmentation()


class CropReader:
    """Reads crops of a store's slices.

    The mel of a crop is to equal the same span of its whole slice's mel: where that is not at hand,
    the crop's audio is read with as much of its surroundings as the analysis window reaches over,
    and mirrored only at the slice's own ends.

    B crops, N frames (of the longest crop), C content channels, M mel bins.

    Args:
        store: the prepared dataset.
        slices: the slices that crops count from.
        spec: framing and mel range. Stored mels are used where they have this range.
        in_ram: read everything once and keep it as it is stored, and the mels of whole slices,
            where they are not stored, as float32 (about 10 MB per minute in all).
        augmentation: what may happen to crops. Where it changes the audio, mels of whole slices are
            left aside, and those of crops made from that.

    Raises:
        UserError: `spec` has another sample rate or hop than the store, or (`in_ram`) a file of it
            is missing or damaged.
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
        parts = CropParts.of(store, spec, augmentation, in_ram)
        self._margin = parts.margin_frames
        self._has_mel = "mel" in parts.features
        self._arrays = SliceArrays(store, slices, spec, parts, in_ram)

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
        if self._has_mel and any(sample.changes_sound for sample in samples):
            raise ValueError("kept mels are not those of audio that augmentation has changed")
        frames = max(crop.frames for crop in crops)
        count, hop, margin = len(crops), self._spec.hop_samples, self._margin
        content = np.zeros((count, frames, self._store.content_channels), dtype=np.float32)
        f0 = np.zeros((count, frames), dtype=np.float32)
        energy = np.zeros((count, frames), dtype=np.float32)
        audio = np.zeros((count, (frames + 2 * margin) * hop), dtype=np.float32)
        lengths = np.empty(count, dtype=np.int64)
        for row, (crop, sample) in enumerate(zip(crops, samples, strict=True)):
            with self._arrays.explained(crop.slice_index):
                lengths[row] = self._read_crop(
                    crop, sample, content[row], f0[row], energy[row], audio[row]
                )
        audio *= np.float32(1 / AUDIO_FULL_SCALE)
        return LoadedCrops(
            waveform=torch.from_numpy(audio),
            margin_frames=margin,
            mel=self._whole_mels(crops, lengths, frames) if self._has_mel else None,
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
            f0[:valid] = self._arrays.get(index, "f0")[first : first + valid]
            energy[:valid] = self._arrays.get(index, "energy")[first : first + valid]
            start = (first - self._margin) * self._spec.hop_samples
            self._arrays.read_audio(sounding, index, start, mirrored_ends=self._margin > 0)
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
            return self._arrays.get(index, "content")
        variants = self._arrays.get(index, "variants")
        if isinstance(variants, StoredArray):
            return variants.part(variant - 1)
        part: NDArray[Any] = variants[variant - 1]
        return part

    def _at_speed(
        self, index: int, first: int, frames: int, sample: SampleAugmentation
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """F0, negative where unvoiced as it is stored, and energy, [frames] each."""
        arrays = self._arrays.get(index, "f0"), self._arrays.get(index, "energy")
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
        self._arrays.read_audio(source, index, start, mirrored_ends=True)
        source = stretched(source, sample.rate, before_shift)
        row[:] = played_at(source, sample.pitch_ratio, wanted)[edge : edge + len(row)]

    def _whole_mels(self, crops: Sequence[Crop], lengths: NDArray[np.int64], frames: int) -> Tensor:
        """[B, M, N]."""
        floor = float(np.log(LOG_FLOOR))
        mels = np.full((len(crops), frames, self._spec.mel_bins), floor, dtype=np.float32)
        for row, crop in enumerate(crops):
            last = crop.first_frame + int(lengths[row])
            mels[row, : lengths[row]] = self._arrays.get(crop.slice_index, "mel")[
                crop.first_frame : last
            ]
        return torch.from_numpy(mels).transpose(1, 2).contiguous()
