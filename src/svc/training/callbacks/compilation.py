"""Networks compiled for the shapes that training has."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from svc.models.denoiser import MelDenoiser
from svc.models.period_discriminator import PeriodDiscriminator
from svc.models.scale_discriminator import ScaleDiscriminator
from svc.models.spectrogram_discriminator import SpectrogramDiscriminator
from svc.models.upsampling_stage import UpsamplingStage
from svc.models.wavenet import WaveNet
from svc.training.network_module import NetworkModule

_logger = logging.getLogger(__name__)

CompileMode = Literal["default", "max-autotune"]

COMPILED = (
    MelDenoiser,
    WaveNet,
    UpsamplingStage,
    PeriodDiscriminator,
    ScaleDiscriminator,
    SpectrogramDiscriminator,
)
"""Parts without randomness and without a choice of ways: nearly all the work of a step is in them,
and each compiles in one piece."""

INDUCTOR_MODES = {"default": "default", "max-autotune": "max-autotune-no-cudagraphs"}
"""What torch.compile calls them. CUDA graphs would write every step's results into the same memory;
those of a generator would be overwritten while the discriminators are consulted, before its own
backward pass, and accumulated gradients by the next batch."""

VARIANTS = 64
"""Discriminators of one class differ in period or scale, and see a signal that takes a gradient
and one that takes none. PyTorch runs what has more than 8 variants without compilation."""


class CompileNetworks(Callback):
    """Has torch.compile make kernels of the parts that training spends its time in.

    Compiled are backbone, denoiser, the stages of the decoder and every discriminator, each for the
    static shapes of the training's crops. What only renders (frozen vocoders, the moving average)
    stays as it is: validation has crops of many lengths.

    Args:
        mode: "max-autotune" measures which kernels are fastest, which takes minutes once.
        backend: of torch.compile.
    """

    def __init__(
        self, mode: CompileMode = "default", backend: str | Callable[..., Any] = "inductor"
    ) -> None:
        self.mode = mode
        self.backend = backend

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Mark the parts; they are compiled at their first step."""
        if stage != "fit" or not isinstance(pl_module, NetworkModule):
            return
        parts = list(compiled_parts(pl_module))
        limits: Any = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, VARIANTS)
        for part in parts:
            if self.backend == "inductor":
                part.compile(mode=INDUCTOR_MODES[self.mode], dynamic=False)
            else:
                part.compile(backend=self.backend, dynamic=False)
        if trainer.is_global_zero:
            _logger.info("The first steps compile %d parts of the networks.", len(parts))


def compiled_parts(module: NetworkModule) -> Iterator[nn.Module]:
    """The outermost of `COMPILED` in every network that learns."""
    for name in module.networks:
        yield from _outermost(getattr(module, name))


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, COMPILED):
        if any(parameter.requires_grad for parameter in module.parameters()):
            yield module
        return
    for child in module.children():
        yield from _outermost(child)
