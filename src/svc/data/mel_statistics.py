"""How loud each mel bin of a dataset gets, and how quiet."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.store import AUDIO_FULL_SCALE, FeatureStore


@torch.inference_mode()
def mel_bounds(
    store: FeatureStore, spec: AudioSpec, level: Callable[[Tensor], Tensor] | None = None
) -> tuple[list[float], list[float]]:
    """The smallest and the largest value of every mel bin over the training slices of a store.

    Takes about 4 s per hour of audio and core.

    Args:
        store: its audio is read, and its energy where a level is asked for.
        spec: of the mels.
        level: energy [1, N] -> what is subtracted from the mel, [1, 1, N]; None for nothing.

    Returns:
        Minimum and maximum, [M] each, in nepers, to four decimals.
    """
    mel_of = MelSpectrogram(spec)
    low = torch.full((spec.mel_bins,), torch.inf)
    high = torch.full((spec.mel_bins,), -torch.inf)
    for record in store.split("train"):
        stored = np.load(store.path(record, "audio"), mmap_mode="r")
        mel = mel_of(
            torch.from_numpy(stored.astype(np.float32) / np.float32(AUDIO_FULL_SCALE))[None]
        )
        if level is not None:
            mel = mel - level(torch.from_numpy(np.load(store.path(record, "energy")))[None])
        low = torch.minimum(low, mel[0].amin(dim=1))
        high = torch.maximum(high, mel[0].amax(dim=1))
    return tuple([round(float(v), 4) for v in values] for values in (low, high))  # type: ignore[return-value]
