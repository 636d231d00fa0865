"""The batch that training sees."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
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

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        moved = {
            f.name: getattr(self, f.name).to(device, non_blocking=non_blocking)
            for f in fields(self)
        }
        return replace(self, **moved)

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, which copies to a GPU in the background."""
        return replace(self, **{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})
