"""Vocoders out of checkpoints, trained and not, as candidates of `task=vocoder`."""

from pathlib import Path

import torch

from svc.audio.spec import AudioSpec
from svc.checkpoints.runs import checkpoint_to_convert_with
from svc.config.instantiate import build
from svc.errors import UserError
from svc.inference.loading import load_vocoder
from svc.models.vocoder import Vocoder


def trained(checkpoint: str | None, audio: AudioSpec) -> Vocoder:
    """The vocoder of a checkpoint (arch=nsf_hifigan, or a HiFiSinger's decoder).

    Raises:
        UserError: there is none, or its mel is another.
    """
    return load_vocoder(_path(checkpoint), audio).network


def untrained(checkpoint: str | None, audio: AudioSpec, seed: int = 0) -> Vocoder:
    """The same vocoder as training found it: what of its sound is its weights' merit?

    Raises:
        UserError: see `trained`.
    """
    node = load_vocoder(_path(checkpoint), audio).node
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vocoder: Vocoder = build(node, trusted=False)
    return vocoder


def _path(checkpoint: str | None) -> Path:
    if checkpoint is None:
        raise UserError("task.checkpoint is not set; give a checkpoint of arch=nsf_hifigan.")
    return checkpoint_to_convert_with(Path(checkpoint))
