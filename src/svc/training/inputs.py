"""Which part of a batch a step renders and judges."""

import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.data.batch import Batch
from svc.training.losses.mel import frame_mask


def sample_mask(batch: Batch, audio: AudioSpec) -> Tensor:
    """[B, 1, T] fp32: 1 where a sample is real, 0 where it is padding."""
    mask = frame_mask(batch.lengths_frames, batch.content.shape[1])
    return mask.repeat_interleave(audio.hop_samples, dim=1)[:, None]


def rendered_frames(frames: int, render_frames: int | None, seed: int) -> slice:
    """Which frames of a crop become a waveform in this step.

    The backbone learns from long crops at little cost; the decoder and the discriminators, where
    nearly all the work is, see a window of them at a random place, the same for the whole batch.

    Args:
        frames: N of the crop.
        render_frames: length of the window; None, or more than there is, for the whole crop.
        seed: decides the place.
    """
    length = frames if render_frames is None else min(render_frames, frames)
    # On the CPU, because reading a random number off a GPU would wait for it.
    chooser = torch.Generator().manual_seed(seed)
    start = int(torch.randint(frames - length + 1, (1,), generator=chooser))
    return slice(start, start + length)
