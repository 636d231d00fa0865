"""What the training of mel-sampling singers minimises, over the frames that are not padding."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from svc.models.conditioner import Conditioning

Distance = Literal["l1", "l2", "smooth_l1"]
_DISTANCES = {"l1": F.l1_loss, "l2": F.mse_loss, "smooth_l1": F.smooth_l1_loss}


@dataclass(frozen=True)
class MelLoss:
    """What a training step minimises."""

    total: Tensor
    """Scalar float32 with a graph."""
    parts: Mapping[str, Tensor]
    """Its parts by name, without a graph and before they are weighted."""


def real_frames(lengths_frames: Tensor, frames: int) -> Tensor | None:
    """[B] lengths -> mask [B, 1, N] float32, 1 for real frames; None where it is known, without
    waiting for a device, that all are."""
    if lengths_frames.device.type == "cpu" and bool((lengths_frames >= frames).all()):
        return None
    positions = torch.arange(frames, device=lengths_frames.device)
    return (positions < lengths_frames[:, None]).float()[:, None]


def without_padding(conditioning: Conditioning, mask: Tensor | None) -> Conditioning:
    """With zeros for the content of padded frames, the only input that neighbours can see."""
    if mask is None:
        return conditioning
    return replace(conditioning, content=conditioning.content * mask)


def masked_distance(
    predicted: Tensor, target: Tensor, mask: Tensor | None, kind: Distance
) -> Tensor:
    """Mean distance of two [B, M, N] over the real frames alone, a float32 scalar; 0 without any.

    Smooth L1 has its knee at 1.
    """
    predicted, target = predicted.float(), target.float()
    if mask is None:
        return _DISTANCES[kind](predicted, target)
    per_value = _DISTANCES[kind](predicted, target, reduction="none")
    return (per_value.mean(1, keepdim=True) * mask).sum() / mask.sum().clamp(min=1)


def drawn_on(rng: torch.Generator | None, device: torch.device) -> torch.device:
    """Where random numbers for `device` have to be drawn: a generator is bound to its own."""
    return device if rng is None else rng.device
