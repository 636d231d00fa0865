"""A DiffSVC or FlowSVC small enough to train in a second."""

from functools import partial
from typing import Any

import torch

from svc.diffusion.samplers.ddim import Ddim
from svc.diffusion.samplers.euler import Euler
from svc.diffusion.schedule import linear_schedule
from svc.models.conditioner import Conditioner
from svc.models.denoiser import MelDenoiser
from svc.models.diffsvc import DiffSvc
from svc.models.flowsvc import FirstGuess, FlowSvc
from svc.models.mel_scaling import MelScaling
from svc.models.mel_singer import MelSinger
from svc.models.wavenet import WaveNet
from svc.training.mel_singer import MelSingerModule
from training.tiny_training import CONTENT_CHANNELS, FACTS, SPEC, tiny_decoder


def tiny_singer(kind: str) -> MelSinger:
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "conditioner": Conditioner(content_channels=CONTENT_CHANNELS, speakers=2, channels=8),
        "denoiser": MelDenoiser(WaveNet(SPEC.mel_bins, 8, 32, 2, out_channels=SPEC.mel_bins)),
        "scaling": MelScaling(-12.0, 4.0),
        "vocoder": tiny_decoder(),
    }
    if kind == "diffusion":
        return DiffSvc(**parts, schedule=linear_schedule())
    return FlowSvc(**parts, first_guess=FirstGuess(8, SPEC.mel_bins, channels=8, layers=1))


def tiny_module(kind: str, singer: MelSinger | None = None, **options: Any) -> MelSingerModule:
    """The same weights at every call, but for those of a singer that is given."""
    defaults: dict[str, Any] = {
        "optimizer": partial(torch.optim.AdamW, lr=5e-3),
        "sampler": Ddim(steps=3) if kind == "diffusion" else Euler(steps=3),
        "facts": FACTS,
        "seed": 1,
    }
    return MelSingerModule(singer or tiny_singer(kind), SPEC, **{**defaults, **options})
