"""Multi-scale discriminator of MelGAN (Kumar et al. 2019) as HiFi-GAN uses it."""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from svc.models.folded_convolution import folded_conv1d
from svc.models.normalisation import weight_norm

LEAKY_SLOPE = 0.1


@dataclass(frozen=True)
class ScaleLayer:
    """One hidden convolution."""

    channels: int
    """At the published width; `width` scales it."""
    kernel: int
    stride: int
    groups: int


PUBLISHED_LAYERS = (
    ScaleLayer(128, 15, 1, 1),
    ScaleLayer(128, 41, 2, 4),
    ScaleLayer(256, 41, 2, 16),
    ScaleLayer(512, 41, 4, 16),
    ScaleLayer(1024, 41, 4, 16),
    ScaleLayer(1024, 41, 1, 16),
    ScaleLayer(1024, 5, 1, 1),
)


class ScaleDiscriminator(nn.Module):
    """Judges the waveform by grouped strided convolutions with long kernels.

    Args:
        width: factor for the channels of `PUBLISHED_LAYERS`; a layer has as many of its groups as
            the narrower channels allow.
        spectral: spectral norm instead of weight norm.
        halvings: how often the audio is averaged to half its rate beforehand.
    """

    def __init__(self, width: float = 1.0, *, spectral: bool = False, halvings: int = 0) -> None:
        super().__init__()
        self.halvings = halvings
        norm = partial(parametrizations.spectral_norm, name="weight") if spectral else weight_norm
        self.layers = nn.ModuleList()
        channels_in = 1
        for layer in PUBLISHED_LAYERS:
            channels = round(layer.channels * width)
            groups = min(layer.groups, channels_in)
            if channels < 1 or channels % groups or channels_in % groups:
                raise ValueError(
                    f"width={width} makes {channels_in} and {channels} channels, which do not "
                    f"divide into {groups} groups; use a power of two"
                )
            conv = nn.Conv1d(
                channels_in,
                channels,
                layer.kernel,
                layer.stride,
                padding=layer.kernel // 2,
                groups=groups,
            )
            self.layers.append(norm(conv))
            channels_in = channels
        self.output = norm(nn.Conv1d(channels_in, 1, 3, padding=1))

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """audio [B, 1, T] -> scores [B, T'] and the layers' features [B, C, T']."""
        x = audio
        for _ in range(self.halvings):
            x = F.avg_pool1d(x, 4, 2, padding=2)
        features = []
        for layer in self.layers:
            x = F.leaky_relu_(_convolve(layer, x), LEAKY_SLOPE)
            features.append(x)
        x = self.output(x)
        features.append(x)
        return x.flatten(1), features


class MultiScaleDiscriminator(nn.Module):
    """Scale discriminators on the waveform and on averages of it.

    The first, on the raw waveform, is spectrally normed, the others have weight norm.

    Args:
        scales: how many; each sees the audio at half the rate of the one before.
        width: factor for all channels. At 1 each scale has 9.9 M parameters.
    """

    def __init__(self, scales: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            ScaleDiscriminator(width, spectral=index == 0, halvings=index)
            for index in range(scales)
        )

    def forward(self, audio: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """audio [B, 1, T] -> scores and features of every scale."""
        return [discriminator(audio) for discriminator in self.scales]


def _convolve(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)`; on a CPU, grouped layers take the way that oneDNN computes fastest."""
    assert isinstance(layer, nn.Conv1d)
    compiled = torch.compiler.is_compiling()  # which knows no convolution with a computed weight
    if layer.groups == 1 or layer.bias is None or x.device.type != "cpu" or compiled:
        y: Tensor = layer(x)
        return y
    stride = layer.stride[0]
    return folded_conv1d(
        x,
        layer.weight,
        layer.bias,
        stride=stride,
        groups=layer.groups,
        fold=4 if stride > 1 else 2,
    )
