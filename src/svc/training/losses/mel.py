"""L1 distance of mel spectrograms."""

import torch
from torch import Tensor


def masked_mel_l1(predicted: Tensor, target: Tensor, lengths_frames: Tensor) -> Tensor:
    """Mean absolute difference of two log mels over the frames that are not padding.

    Args:
        predicted: [B, M, N] natural-log mel, any float type; compared in fp32.
        target: [B, M, N], the same definition.
        lengths_frames: [B] int64, frames that are not padding, 0 to N.

    Returns:
        Scalar >= 0 in nepers; 0 when the mels are equal or when there is no frame at all.
    """
    total, frames = mel_l1_sums(predicted, target, lengths_frames)
    return total / frames.clamp(min=1)


def mel_l1_sums(predicted: Tensor, target: Tensor, lengths_frames: Tensor) -> tuple[Tensor, Tensor]:
    """The two sums whose quotient is `masked_mel_l1`, for a mean over several batches.

    Args:
        predicted: see `masked_mel_l1`.
        target: see `masked_mel_l1`.
        lengths_frames: see `masked_mel_l1`.

    Returns:
        Sum over the valid frames of the difference averaged over mel bins, and the number of
        valid frames; two fp32 scalars.
    """
    mask = frame_mask(lengths_frames, predicted.shape[-1])
    per_frame = (predicted.float() - target.float()).abs().mean(dim=1)
    return (per_frame * mask).sum(), mask.sum()


def frame_mask(lengths_frames: Tensor, frames: int) -> Tensor:
    """[B] lengths -> [B, frames] fp32: 1 where a frame is real, 0 where it is padding."""
    positions = torch.arange(frames, device=lengths_frames.device)
    return (positions[None, :] < lengths_frames[:, None]).float()
