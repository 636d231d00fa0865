"""Multi-resolution spectrogram discriminator of UnivNet (Jang et al. 2021, section 2.3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svc.models.normalisation import weight_norm

LEAKY_SLOPE = 0.2


@dataclass(frozen=True)
class StftResolution:
    """What one discriminator looks through."""

    fft_samples: int
    hop_samples: int
    window_samples: int
    """Of the Hann window; at most `fft_samples`."""


PUBLISHED_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""FFT, hop and window in samples. The paper's, for 24 kHz; at 44.1 kHz the windows last 14, 27 and
5 ms."""


class SpectrogramDiscriminator(nn.Module):
    """Judges the linear magnitude of a short-time Fourier transform by strided convolutions.

    Where a waveform discriminator has to learn to see harmonics, this one has them before its
    eyes; the paper finds that it takes away the over-smooth, metallic high partials.

    Args:
        resolution: of the transform.
        channels: of the hidden layers.
    """

    window: Tensor

    def __init__(self, resolution: StftResolution, channels: int = 32) -> None:
        super().__init__()
        if not 0 < resolution.window_samples <= resolution.fft_samples:
            raise ValueError(f"{resolution}: the window must not be longer than the FFT")
        self.resolution = resolution
        # Made by rule, so it has no place in a checkpoint.
        window = torch.hann_window(resolution.window_samples)
        self.register_buffer("window", window, persistent=False)

        def layer(c_in: int, kernel: tuple[int, int], stride: int) -> nn.Module:
            padding = (kernel[0] // 2, kernel[1] // 2)
            return weight_norm(nn.Conv2d(c_in, channels, kernel, (1, stride), padding=padding))

        self.layers = nn.ModuleList(
            [
                layer(1, (3, 9), 1),
                *(layer(channels, (3, 9), 2) for _ in range(3)),
                layer(channels, (3, 3), 1),
            ]
        )
        self.output = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=1))

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """audio [B, 1, T] -> scores [B, *] and the layers' features [B, C, N, F'].

        The convolutions run along frequency with stride; N frames stay N frames.
        """
        x = self.magnitude(audio).transpose(1, 2)[:, None]
        features = []
        for layer in self.layers:
            x = F.leaky_relu_(layer(x), LEAKY_SLOPE)
            features.append(x)
        x = self.output(x)
        features.append(x)
        return x.flatten(1), features

    def magnitude(self, audio: Tensor) -> Tensor:
        """audio [B, 1, T], T > 0 -> linear magnitude [B, F, N], fp32 whatever autocast says."""
        fft, hop = self.resolution.fft_samples, self.resolution.hop_samples
        with torch.autocast(audio.device.type, enabled=False):
            signal = audio[:, 0].float()
            side = (fft - hop) // 2
            mode = "reflect" if signal.shape[-1] > side else "constant"
            spectrum = torch.stft(
                F.pad(signal[:, None], (side, side), mode=mode)[:, 0],
                fft,
                hop,
                self.resolution.window_samples,
                self.window,
                center=False,
                return_complex=True,
            )
            # The gradient of a root is not finite at 0.
            return (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow a move to another device, but keep the window's fp32 in a cast."""
        exact: Any = self.window
        super()._apply(fn, recurse)
        if self.window.dtype != exact.dtype:
            self.window = exact.to(self.window.device)
        return self


class MultiResolutionSpectrogramDiscriminator(nn.Module):
    """Spectrogram discriminators side by side.

    Args:
        resolutions: one discriminator each; lists of FFT, hop and window in samples.
        channels: of the hidden layers of each. The default makes 0.1 M parameters per resolution.
    """

    def __init__(
        self,
        resolutions: Sequence[Sequence[int]] = PUBLISHED_RESOLUTIONS,
        channels: int = 32,
    ) -> None:
        super().__init__()
        self.resolutions = nn.ModuleList(
            SpectrogramDiscriminator(StftResolution(*resolution), channels)
            for resolution in resolutions
        )

    def forward(self, audio: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """audio [B, 1, T] -> scores and features of every resolution."""
        return [discriminator(audio) for discriminator in self.resolutions]
