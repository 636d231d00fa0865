"""The batch that training sees, and what is loaded, or looked up, for it."""

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from svc.audio.mel import LOG_FLOOR, MelSpectrogram
from svc.models.conditioner import Conditioning


class _OfTensors:
    """Moves all tensors of a dataclass together."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on another device."""
        moved = {
            name: tensor.to(device, non_blocking=non_blocking)
            for name, tensor in self._tensors().items()
        }
        return replace(self, **moved)  # type: ignore[type-var]

    def pin_memory(self) -> Self:
        """The same in page-locked memory, which copies to a GPU in the background."""
        pinned = {name: tensor.pin_memory() for name, tensor in self._tensors().items()}
        return replace(self, **pinned)  # type: ignore[type-var]

    def _tensors(self) -> dict[str, Tensor]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Batch(_OfTensors):
    """Crops cut on the hop grid: features and audio belong to the same samples.

    B batch, N frames, C content channels. Every input that the configuration enables is present.
    """

    content: Tensor
    """[B, N, C] float32, on the mel's frame grid."""
    f0_hz: Tensor
    """[B, N] float32, interpolated through unvoiced frames."""
    voiced: Tensor
    """[B, N] bool."""
    energy: Tensor
    """[B, N] float32, linear RMS."""
    mel: Tensor
    """[B, mel_bins, N] float32, natural log, floored at 1e-5."""
    audio: Tensor
    """[B, 1, N * hop_samples] float32 in [-1, 1]."""
    lengths_frames: Tensor
    """[B] int64, frames that are not padding."""
    speaker: Tensor
    """[B] int64, index into the speaker table."""
    key_shift_semitones: Tensor
    """[B] float32, by how much the crop was transposed (0 without augmentation)."""

    def conditioning(self) -> Conditioning:
        """What a model is told; content turns from [B, N, C] to [B, C, N]."""
        return Conditioning(
            content=self.content.transpose(1, 2),
            f0_hz=self.f0_hz,
            voiced=self.voiced,
            energy=self.energy,
            speaker=self.speaker,
            key_shift_semitones=self.key_shift_semitones,
        )


@dataclass(frozen=True)
class LoadedCrops(_OfTensors):
    """A batch as it is read, its mel perhaps still to be made.

    That is done where the training is, because it takes three times as long as reading on one core,
    and next to nothing on a GPU. Shapes are those of `Batch` but for:
    """

    waveform: Tensor
    """[B, (N + 2 * margin_frames) * hop_samples] float32: the audio with what lies around it; zeros
    beyond the end of a slice, or of its context."""
    margin_frames: int
    """Frames of context on each side, for the windows of the mel; 0 where that is here."""
    mel: Tensor | None
    """[B, mel_bins, N] where it is stored or kept."""
    content: Tensor
    f0_hz: Tensor
    voiced: Tensor
    energy: Tensor
    lengths_frames: Tensor
    speaker: Tensor
    key_shift_semitones: Tensor

    def batch(self, mel_of: MelSpectrogram) -> Batch:
        """The batch that training sees, on the device that this is on.

        Args:
            mel_of: on the same device.
        """
        mel, audio = self.mel, self.waveform
        if mel is None:
            mel, audio = self._made_mel(mel_of)
        return Batch(
            content=self.content,
            f0_hz=self.f0_hz,
            voiced=self.voiced,
            energy=self.energy,
            mel=mel,
            audio=audio.unsqueeze(1),
            lengths_frames=self.lengths_frames,
            speaker=self.speaker,
            key_shift_semitones=self.key_shift_semitones,
        )

    def _made_mel(self, mel_of: MelSpectrogram) -> tuple[Tensor, Tensor]:
        """The mel, and the audio [B, N * hop_samples] without its context."""
        frames, hop = self.content.shape[1], mel_of.spec.hop_samples
        padding = torch.arange(frames, device=self.waveform.device) >= self.lengths_frames[:, None]
        inside = slice(self.margin_frames, self.margin_frames + frames)
        mel = mel_of(self.waveform)[:, :, inside]
        mel = mel.masked_fill(padding[:, None], math.log(LOG_FLOOR))
        audio = self.waveform[:, inside.start * hop : inside.stop * hop]
        return mel, audio.masked_fill(padding.repeat_interleave(hop, dim=1), 0.0)


@dataclass(frozen=True)
class CropPlaces(_OfTensors):
    """Which crops a batch is to have, where the dataset itself lies on the training device
    (`svc.data.device_cache`). It is all that a step sends there."""

    places: Tensor
    """[B, 3] int64: slice, first frame, content variant (0 for the content as it is)."""
    gains: Tensor | None
    """[B] float64, wanted for the audio; 1 leaves it as it is, None leaves all as they are."""
    frames: int
    """N."""
    padded: bool
    """Whether any of them runs out of its slice."""
