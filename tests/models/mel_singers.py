"""Tiny singers that sample mels, what they are told, and a vocoder, for tests."""

from typing import Any

import torch

from svc.diffusion.schedule import linear_schedule
from svc.models.conditioner import Conditioner, Conditioning
from svc.models.denoiser import MelDenoiser
from svc.models.diffsvc import DiffSvc
from svc.models.flowsvc import FirstGuess, FlowSvc
from svc.models.mel_scaling import MelScaling
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.wavenet import WaveNet

MEL_BINS, HOP_SAMPLES = 10, 32


def conditioning(batch: int, frames: int, seed: int = 0) -> Conditioning:
    rng = torch.Generator().manual_seed(seed)
    return Conditioning(
        content=torch.randn(batch, 5, frames, generator=rng),
        f0_hz=100 + 300 * torch.rand(batch, frames, generator=rng),
        voiced=torch.rand(batch, frames, generator=rng) > 0.4,
        energy=0.01 + torch.rand(batch, frames, generator=rng),
        speaker=torch.arange(batch) % 2,
        key_shift_semitones=torch.full((batch,), 2.0),
    )


def random_mel(batch: int, frames: int, seed: int = 1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return -5 + 2 * torch.randn(batch, MEL_BINS, frames, generator=rng)


def tiny_parts(use_energy: bool = True) -> dict[str, Any]:
    """Arguments of every such singer. The output layer is not zero, as after some training."""
    torch.manual_seed(0)
    denoiser = MelDenoiser(WaveNet(MEL_BINS, 8, 16, 3, 2, out_channels=MEL_BINS))
    torch.nn.init.normal_(denoiser.backbone.output.weight, std=0.1)
    conditioner = Conditioner(content_channels=5, speakers=2, channels=8, use_energy=use_energy)
    return {
        "conditioner": conditioner,
        "denoiser": denoiser,
        "scaling": MelScaling(-13.0, 2.0),
        "vocoder": tiny_vocoder(),
    }


def tiny_vocoder(mel_bins: int = MEL_BINS, **settings: Any) -> NsfHifiGan:
    return NsfHifiGan(
        mel_bins=mel_bins,
        initial_channels=16,
        upsample_rates=(8, 4),
        upsample_kernels=(16, 8),
        resblock_kernels=(3,),
        resblock_dilations=((1, 3),),
        **settings,
    )


def tiny_diffsvc(use_energy: bool = True, **settings: Any) -> DiffSvc:
    return DiffSvc(**tiny_parts(use_energy), schedule=linear_schedule(), **settings)


def tiny_flowsvc(use_energy: bool = True, **settings: Any) -> FlowSvc:
    parts = tiny_parts(use_energy)
    first_guess = FirstGuess(8, MEL_BINS, channels=12, layers=2, kernel=3)
    return FlowSvc(**parts, first_guess=first_guess, **settings)
