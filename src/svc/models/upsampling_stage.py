"""Stages of HiFi-GAN's generator (Kong, Kim & Bae 2020), each driven by a source (Wang, Takaki &
Yamagishi 2019). Signals are [B, C, 1, T]; `svc.models.nsf_hifigan` says why."""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svc.models.chunked import upsample_in_chunks
from svc.models.normalisation import weight_norm

LEAKY_SLOPE = 0.1


def same_length_convolution(
    channels_in: int, channels_out: int, kernel: int, dilation: int = 1, gain: float = 1.0
) -> nn.Conv2d:
    """Weight-normed convolution over time that keeps the length: [B, C, 1, T] -> [B, C', 1, T].

    Args:
        channels_in: C.
        channels_out: C'.
        kernel: odd.
        dilation: of the kernel.
        gain: of its weights as they are at first, over what keeps the power of a signal.
    """
    conv = nn.Conv2d(
        channels_in,
        channels_out,
        (1, kernel),
        dilation=(1, dilation),
        padding=(0, dilation * (kernel - 1) // 2),
    )
    _initialise(conv.weight, channels_in * kernel, gain)
    return weight_norm(conv)


def _initialise(weight: Tensor, inputs: int, gain: float = 1.0) -> None:
    """Keeps the power of a signal behind a leaky ReLU (He et al. 2015), times gain squared.

    The published generators start at a standard deviation of 0.01 everywhere, which lets hardly
    anything through: at a learning rate of 2e-4, the mel distance after some 450 steps of a small
    generator was 1.19 so and 1.08 with this.
    """
    nn.init.normal_(weight, 0.0, gain * math.sqrt(2 / inputs))


class ResidualBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair with a shortcut (HiFi-GAN, type 1).

    Args:
        channels: C.
        kernel: of every convolution, odd.
        dilations: one pair each.
    """

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(
            same_length_convolution(channels, channels, kernel, d) for d in dilations
        )
        # Close to the identity at first.
        self.plain = nn.ModuleList(
            same_length_convolution(channels, channels, kernel, gain=0.2) for _ in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 1, T] -> [B, C, 1, T]."""
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            y = dilated(F.leaky_relu(x, LEAKY_SLOPE))
            x = plain(F.leaky_relu_(y, LEAKY_SLOPE)).add_(x)
        return x


class UpsamplingStage(nn.Module):
    """Transposed convolution, the source at the new rate, and the mean of parallel residual blocks.

    Args:
        channels_in: channels before; half as many come out.
        rate: factor by which the length grows.
        kernel: of the transposed convolution; kernel - rate must be even.
        source_stride: samples of the source per sample of this stage.
        resblock_kernels: one residual block each.
        resblock_dilations: dilations of each residual block.
    """

    def __init__(
        self,
        channels_in: int,
        rate: int,
        kernel: int,
        source_stride: int,
        resblock_kernels: Sequence[int],
        resblock_dilations: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        channels = channels_in // 2
        self.channels = channels
        self.rate = rate
        self.reach = _stage_reach(rate, kernel, resblock_kernels, resblock_dilations)
        """Steps of the input on each side of a step that can influence its output."""
        self.upsample = nn.ConvTranspose2d(
            channels_in, channels, (1, kernel), (1, rate), padding=(0, (kernel - rate) // 2)
        )
        _initialise(self.upsample.weight, channels_in * kernel // rate)
        weight_norm(self.upsample)
        source_kernel = 2 * source_stride if source_stride > 1 else 1
        self.source = nn.Conv2d(
            1, channels, (1, source_kernel), (1, source_stride), padding=(0, source_stride // 2)
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, k, d)
            for k, d in zip(resblock_kernels, resblock_dilations, strict=True)
        )

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """x [B, C, 1, T], source [B, 1, 1, T * rate * source_stride] -> [B, C / 2, 1, T * rate]."""
        x = self._driven(self.upsample(F.leaky_relu(x, LEAKY_SLOPE)), source)
        total: Tensor = self.blocks[0](x)
        for index in range(1, len(self.blocks)):
            total = self.blocks[index](x).add_(total)
        return total.div_(len(self.blocks))

    def _driven(self, x: Tensor, source: Tensor) -> Tensor:
        """x [B, C, 1, T], which may be overwritten, with the source at the same rate added."""
        if self.source.kernel_size != (1, 1):
            x += self.source(source)
            return x
        # A number for each channel, which as a convolution takes seven times as long on a CPU.
        bias = cast(Tensor, self.source.bias)
        weight, bias = (p.view(1, -1, 1, 1) for p in (self.source.weight, bias))
        x += torch.addcmul(bias, source, weight).to(x.dtype)
        return x

    def forward_in_chunks(self, x: Tensor, source: Tensor) -> Tensor:
        """The same, in pieces that fit into the caches of a CPU."""
        return upsample_in_chunks(
            self, x, source, channels=self.channels, rate=self.rate, reach=self.reach
        )


def _stage_reach(
    rate: int, kernel: int, resblock_kernels: Sequence[int], dilations: Sequence[Sequence[int]]
) -> int:
    """Input steps on each side of an upsampling stage that can influence an output step."""
    blocks = max(
        sum(kernel // 2 * (dilation + 1) for dilation in block_dilations)
        for kernel, block_dilations in zip(resblock_kernels, dilations, strict=True)
    )
    return math.ceil((blocks + (kernel + rate) // 2) / rate)
