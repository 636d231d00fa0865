"""A training set that lies on the training device, and crops gathered there.

All slices lie one behind the other, each feature in one tensor as it is stored, so that a batch is
one computation of row numbers and one gather per feature. A step sends nothing to the device but
the places of its crops.

B crops, N frames, C content channels, M mel bins.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.audio.mel import LOG_FLOOR
from svc.audio.spec import AudioSpec
from svc.data.augmentation.parameters import SampleAugmentation
from svc.data.batch import CropPlaces, LoadedCrops
from svc.data.sampling import Crop
from svc.data.slice_arrays import SliceArrays
from svc.data.store import AUDIO_FULL_SCALE, FeatureStore, SliceRecord
from svc.features.interpolation import neighbours


class DeviceCache:
    """Gives the very crops that `CropReader` reads, without reading.

    What changes the tempo of audio (key shift, time stretch) needs the reader; gains and perturbed
    content do not.

    Args:
        arrays: those of `slices`, read once.
        store: the prepared dataset.
        slices: the slices that crops count from.
        spec: framing and mel.
        device: where everything is put.

    Raises:
        UserError: a file of the store is missing or damaged.
        torch.OutOfMemoryError: there is no room (see `svc.data.cache`).
    """

    def __init__(
        self,
        arrays: SliceArrays,
        store: FeatureStore,
        slices: Sequence[SliceRecord],
        spec: AudioSpec,
        device: torch.device,
    ) -> None:
        self.device = device
        parts = arrays.parts
        self._hop, self._margin = spec.hop_samples, parts.margin_frames
        variants = store.content_variants if "variants" in parts.features else 0
        frames = np.array([record.frames for record in slices], dtype=np.int64)
        native = np.array([record.content_frames for record in slices], dtype=np.int64)
        self._frames = frames.tolist()
        self._frame_starts = _starts(frames)
        self._audio_starts = _starts(frames + 2 * self._margin)
        self._content_starts = _starts(native * (1 + variants))

        total, content_total = int(frames.sum()), int(native.sum()) * (1 + variants)
        audio_total = total + 2 * self._margin * len(slices)
        self._audio = torch.empty(audio_total, self._hop, dtype=torch.int16, device=device)
        self._content = torch.empty(
            content_total, store.content_channels, dtype=torch.float16, device=device
        )
        self._f0 = torch.empty(total, dtype=torch.float32, device=device)
        self._energy = torch.empty_like(self._f0)
        self._left = torch.empty(total, dtype=torch.int64, device=device)
        self._right = torch.empty_like(self._left)
        self._weight = torch.empty_like(self._f0)
        self._mel: Tensor | None = None
        if "mel" in parts.features:
            mel_type = torch.float32 if parts.mel_is_made else torch.float16
            self._mel = torch.empty(total, spec.mel_bins, dtype=mel_type, device=device)
        for index, record in enumerate(slices):
            self._load(arrays, store, spec, index, record)

        speakers = [store.speaker_index(record.speaker) for record in slices]
        # One row per slice: what of it a gather needs, looked up by one gather itself.
        table = np.stack(
            [
                frames,
                native,
                self._frame_starts,
                self._audio_starts,
                self._content_starts,
                np.array(speakers, dtype=np.int64),
            ],
            axis=1,
        )
        self._slices = torch.from_numpy(table).to(device)
        self._full_scale = torch.tensor(AUDIO_FULL_SCALE, dtype=torch.float32, device=device)

    def _load(
        self,
        arrays: SliceArrays,
        store: FeatureStore,
        spec: AudioSpec,
        index: int,
        record: SliceRecord,
    ) -> None:
        """Put a slice at its place."""
        found = arrays.whole(index)
        span = slice(self._frame_starts[index], self._frame_starts[index] + record.frames)
        first = self._audio_starts[index]
        last = first + record.frames + 2 * self._margin
        _put(self._audio[first:last], found["audio"].reshape(-1, self._hop))
        first = self._content_starts[index]
        last = first + record.content_frames
        _put(self._content[first:last], found["content"])
        if "variants" in found:
            rows = found["variants"].reshape(-1, found["variants"].shape[-1])
            _put(self._content[last : last + len(rows)], rows)
        _put(self._f0[span], found["f0"])
        _put(self._energy[span], found["energy"])
        if self._mel is not None:
            _put(self._mel[span], found["mel"])
        # Where a frame lies depends on its number within the slice alone.
        left, right, weight = neighbours(
            store.meta.content_grid, spec, 0, record.frames, record.content_frames
        )
        _put(self._left[span], left)
        _put(self._right[span], right)
        _put(self._weight[span], weight)

    def read(
        self, crops: Sequence[Crop], augmented: Sequence[SampleAugmentation] | None = None
    ) -> CropPlaces:
        """Where the crops lie; `crops_at`, on the device, makes crops of that.

        Args:
            augmented: what happens to each of them.

        Raises:
            ValueError: the crops differ in length, or something is to happen that needs the audio
                to be resampled or, where mels of whole slices are kept, changes it.
        """
        samples = augmented or [SampleAugmentation()] * len(crops)
        if any(sample.speed != 1.0 for sample in samples):
            raise ValueError("crops on the device cannot be played at another speed")
        changed = any(sample.changes_sound for sample in samples)
        if changed and self._mel is not None:
            raise ValueError("kept mels are not those of audio that augmentation has changed")
        (frames,) = {crop.frames for crop in crops}
        places = [
            (crop.slice_index, crop.first_frame, sample.content_variant)
            for crop, sample in zip(crops, samples, strict=True)
        ]
        gains = None
        if changed:
            gains = torch.tensor([10 ** (s.gain_db / 20) for s in samples], dtype=torch.float64)
        padded = any(crop.first_frame + frames > self._frames[crop.slice_index] for crop in crops)
        return CropPlaces(torch.tensor(places), gains, frames, padded)

    def crops_at(self, places: CropPlaces) -> LoadedCrops:
        """The crops, equal to what `CropReader.read` gives, on the device.

        Args:
            places: from `read`, moved to the device.
        """
        index, first, variant = places.places.unbind(1)
        slices, native, frame_start, audio_start, content_start, speaker = self._slices[
            index
        ].unbind(1)
        lengths = (slices - first).clamp(1, places.frames)
        offsets = torch.arange(places.frames + 2 * self._margin, device=self.device)
        within = offsets[: places.frames]
        padding = beyond = None  # most batches have none, and are spared masking
        if places.padded:
            padding = within >= lengths[:, None]
            beyond = offsets >= lengths[:, None] + 2 * self._margin
            within = torch.minimum(within, lengths[:, None] - 1)
            offsets = torch.minimum(offsets, lengths[:, None] + 2 * self._margin - 1)
        rows = (frame_start + first)[:, None] + within
        f0 = _filled(self._f0[rows], padding)
        energy = _filled(self._energy[rows], padding)

        content_start = content_start + variant * native
        content = self._content[content_start[:, None] + self._left[rows]].float()
        difference = self._content[content_start[:, None] + self._right[rows]].float() - content
        content += difference * self._weight[rows][..., None]

        audio_rows = (audio_start + first)[:, None] + offsets
        audio = _filled(self._audio[audio_rows].float(), beyond).flatten(1)
        if places.gains is not None:
            gain = self._gain(places.gains, audio)[:, None]
            audio *= gain
            energy *= gain
        return LoadedCrops(
            waveform=audio.mul_(float(np.float32(1 / AUDIO_FULL_SCALE))),
            margin_frames=self._margin,
            mel=self._whole_mel(rows, padding),
            content=_filled(content, padding),
            f0_hz=f0.abs(),
            voiced=f0 > 0,
            energy=energy,
            lengths_frames=lengths,
            speaker=speaker,
            key_shift_semitones=torch.zeros_like(f0[:, 0]),
        )

    def _gain(self, wanted: Tensor, audio: Tensor) -> Tensor:
        """[B] fp32: as `svc.data.augmentation.loudness` has it; exactly 1 where that is wanted."""
        # Divided by a tensor: a number would be turned into a factor, which rounds otherwise.
        peaks = (audio.abs().amax(1) / self._full_scale).double().clamp(min=1e-9)
        return torch.where(wanted == 1.0, 1.0, torch.minimum(wanted, 1 / peaks)).float()

    def _whole_mel(self, rows: Tensor, padding: Tensor | None) -> Tensor | None:
        """[B, M, N] where mels of whole slices are kept."""
        if self._mel is None:
            return None
        mel = _filled(self._mel[rows].float(), padding, math.log(LOG_FLOOR))
        return mel.transpose(1, 2).contiguous()


def _filled(rows: Tensor, padding: Tensor | None, value: float = 0.0) -> Tensor:
    """`rows`, [B, N, ...], with `value` where padding [B, N] is."""
    if padding is None:
        return rows
    return rows.masked_fill_(padding.view(*padding.shape, *[1] * (rows.dim() - 2)), value)


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of several spans begins, laid one behind the other."""
    return np.cumsum(lengths) - lengths


def _put(place: Tensor, rows: NDArray[Any]) -> None:
    """Copy rows to their place on the device."""
    place.copy_(torch.from_numpy(np.require(rows, requirements=["C", "W"])))
