"""Multi-period discriminator of HiFi-GAN (Kong, Kim & Bae 2020, section 2.3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svc.models.normalisation import weight_norm

LEAKY_SLOPE = 0.1


class PeriodDiscriminator(nn.Module):
    """Judges the p interleaved signals that remain when every p-th sample is taken.

    Args:
        period: p in samples.
        channels: of the hidden layers, one each.
        kernel: of the hidden layers, odd.
        stride: of all hidden layers but the last.
    """

    def __init__(
        self, period: int, channels: Sequence[int], kernel: int = 5, stride: int = 3
    ) -> None:
        super().__init__()
        self.period = period
        widths = [1, *channels]
        strides = [*[stride] * (len(channels) - 1), 1]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(c_in, c_out, (kernel, 1), (s, 1), padding=(kernel // 2, 0)))
            for c_in, c_out, s in zip(widths, channels, strides, strict=False)
        )
        self.output = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """audio [B, 1, T], T > p -> scores [B, T' * p] and the layers' features [B, C, T', p]."""
        batch, _, samples = audio.shape
        padded = F.pad(audio, (0, -samples % self.period), mode="reflect")
        phases = padded.view(batch, -1, self.period)
        features = self._on_cpu(phases) if audio.device.type == "cpu" else self._on_gpu(phases)
        return features[-1].flatten(1), features

    def _on_cpu(self, phases: Tensor) -> list[Tensor]:
        """[B, T / p, p] -> features.

        The convolutions see the batch beside the phases of the period, as the width of a single
        image [1, C, T', B * p]: with short signals in the batch instead, the inner loops run over
        as few as two values, and a training step takes half as long again.
        """
        batch = phases.shape[0]
        x = phases.transpose(0, 1).reshape(1, 1, -1, batch * self.period)
        features = []
        for layer in self.layers:
            x = F.leaky_relu_(layer(x), LEAKY_SLOPE)
            features.append(x)
        features.append(self.output(x))
        return [
            layer.view(-1, layer.shape[2], batch, self.period).permute(2, 0, 1, 3)
            for layer in features
        ]

    def _on_gpu(self, phases: Tensor) -> list[Tensor]:
        """[B, T / p, p] -> features, by way of [B * p, C, 1, T'] with channels last in memory, as
        the matrix units want it: elsewhere in memory they are brought there and back."""
        batch = phases.shape[0]
        x = phases.transpose(1, 2).reshape(batch * self.period, 1, 1, -1)
        features = []
        for layer in self.layers:
            x = F.leaky_relu_(_along_last_axis(layer, x), LEAKY_SLOPE)
            features.append(x)
        features.append(_along_last_axis(self.output, x))
        return [
            layer.squeeze(2).unflatten(0, (batch, self.period)).permute(0, 2, 3, 1)
            for layer in features
        ]


def _along_last_axis(layer: nn.Module, x: Tensor) -> Tensor:
    """A convolution over the height of an image, over the width of x [B, C, 1, T]."""
    assert isinstance(layer, nn.Conv2d)
    weight = layer.weight.transpose(2, 3).contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, layer.bias, (1, layer.stride[0]), (0, int(layer.padding[0])))


class MultiPeriodDiscriminator(nn.Module):
    """Period discriminators side by side; prime periods overlap the least.

    Args:
        periods: in samples.
        channels: of the hidden layers of each. The defaults make 8.2 M parameters per period.
        kernel: of the hidden layers.
        stride: of all hidden layers but the last.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        channels: Sequence[int] = (32, 128, 512, 1024, 1024),
        kernel: int = 5,
        stride: int = 3,
    ) -> None:
        super().__init__()
        self.periods = nn.ModuleList(
            PeriodDiscriminator(period, channels, kernel, stride) for period in periods
        )

    def forward(self, audio: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """audio [B, 1, T] -> scores and features of every period."""
        return [discriminator(audio) for discriminator in self.periods]
