"""NSF-HiFiGAN: a HiFi-GAN generator (Kong, Kim & Bae 2020) whose upsampling stages are driven by a
sine source (Wang, Takaki & Yamagishi 2019); the layout of the published 44.1 kHz vocoders.

Inside the generator a signal is [B, C, 1, T]: only two-dimensional convolutions take channels-last
memory, which oneDNN computes without reordering (two to four times faster on a CPU), and the matrix
units of NVIDIA's GPUs as well (a sixth faster in fp16 and TF32 on an H100).
"""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svc.models.normalisation import fold_weight_norm
from svc.models.sine_source import F0Upsampling, Randomness, SineSource
from svc.models.source_shaper import SourceShaper
from svc.models.upsampling_stage import UpsamplingStage, same_length_convolution
from svc.models.vocoder import Vocoder

# The published generators end with PyTorch's default slope.
LAST_LEAKY_SLOPE = 0.01


class NsfHifiGan(Vocoder):
    """Mel and F0 to waveform, through stages that a sine source drives.

    The defaults are the published 44.1 kHz generator (14.2 M parameters).

    Args:
        mel_bins: M, channels of the input.
        initial_channels: channels before the first stage; every stage halves them.
        upsample_rates: factor of every stage; their product is the hop.
        upsample_kernels: kernels of the transposed convolutions; kernel - rate must be even.
        resblock_kernels: residual blocks in parallel in every stage.
        resblock_dilations: for each of them, its dilations.
        harmonics: overtones of the sine source.
        sample_rate_hz: of the waveform.
        f0_upsampling: see `SineSource`.
        shaped_source: give the source the mel's envelope before it drives the stages, and add it to
            the output, which is then refined rather than made; see `SourceShaper`. For small models
            and short trainings; the published vocoders do without.
        mel_min_hz: lower end of the mel bands, for the shaping alone.
        mel_max_hz: upper end of the mel bands; None for half the sample rate.

    Raises:
        ValueError: the lists do not fit each other.
    """

    sine_source: SineSource

    def __init__(
        self,
        *,
        mel_bins: int = 128,
        initial_channels: int = 512,
        upsample_rates: Sequence[int] = (8, 8, 2, 2, 2),
        upsample_kernels: Sequence[int] = (16, 16, 4, 4, 4),
        resblock_kernels: Sequence[int] = (3, 7, 11),
        resblock_dilations: Sequence[Sequence[int]] = ((1, 3, 5),) * 3,
        harmonics: int = 8,
        sample_rate_hz: int = 44_100,
        f0_upsampling: F0Upsampling = "masked",
        shaped_source: bool = False,
        mel_min_hz: float = 0.0,
        mel_max_hz: float | None = None,
    ) -> None:
        super().__init__()
        _check_plan(initial_channels, upsample_rates, upsample_kernels)
        _check_blocks(resblock_kernels, resblock_dilations)
        self.mel_bins = mel_bins
        self.hop_samples = math.prod(upsample_rates)
        self.sine_source = SineSource(
            sample_rate_hz, self.hop_samples, harmonics, f0_upsampling=f0_upsampling
        )
        # Log mels lie around -6, and the weights are made for inputs around 1.
        self.input = same_length_convolution(mel_bins, initial_channels, 7, gain=1 / 6)
        self.stages = nn.ModuleList()
        channels, source_stride = initial_channels, self.hop_samples
        for rate, kernel in zip(upsample_rates, upsample_kernels, strict=True):
            source_stride //= rate
            self.stages.append(
                UpsamplingStage(
                    channels, rate, kernel, source_stride, resblock_kernels, resblock_dilations
                )
            )
            channels //= 2
        self.output = same_length_convolution(channels, 1, 7, gain=0.01 if shaped_source else 0.1)
        self.receptive_frames = _receptive_frames(self.stages)
        """Frames of context on each side that can influence a frame's samples."""
        self.shaper: SourceShaper | None = None
        if shaped_source:
            highest_hz = sample_rate_hz / 2 if mel_max_hz is None else mel_max_hz
            self.shaper = SourceShaper(
                sample_rate_hz, self.hop_samples, mel_bins, mel_min_hz, highest_hz
            )
            self.receptive_frames += self.shaper.receptive_frames

    def forward(
        self,
        mel: Tensor,
        f0_hz: Tensor,
        voiced: Tensor,
        *,
        source: Tensor | None = None,
        rng: Randomness = None,
    ) -> Tensor:
        """Renders a waveform.

        Args:
            mel: [B, M, N], natural log.
            f0_hz: [B, N].
            voiced: [B, N] bool.
            source: [B, 1, N * hop_samples] excitation instead of the sine source; F0 is then not
                used.
            rng: randomness of the sine source: a generator, a seed, or None for fresh numbers.

        Returns:
            [B, 1, N * hop_samples] in (-1, 1).

        Raises:
            ValueError: a shape is wrong.
        """
        if mel.ndim != 3 or mel.shape[1] != self.mel_bins:
            raise ValueError(f"mel {list(mel.shape)} must be [B, {self.mel_bins}, N]")
        expected = (mel.shape[0], 1, mel.shape[2] * self.hop_samples)
        if source is None and mel.shape[2] == f0_hz.shape[-1] == 0:
            return mel.new_zeros(expected)
        if source is None:
            source = self.sine_source(f0_hz, voiced, rng=rng)
        if source.shape != expected:
            raise ValueError(
                f"the source {list(source.shape)} must be {list(expected)} for the mel "
                f"{list(mel.shape)}; is F0 {list(f0_hz.shape)} as long as the mel?"
            )
        return self.render(mel, source)

    def render(self, mel: Tensor, source: Tensor) -> Tensor:
        """mel [B, M, N], source [B, 1, N * hop_samples] -> [B, 1, N * hop_samples] in (-1, 1)."""
        on_cpu, on_cuda = (mel.device.type == name for name in ("cpu", "cuda"))
        layout = torch.channels_last if on_cpu or on_cuda else torch.contiguous_format
        if self.shaper is not None:
            source = self.shaper(source, mel)
        x = self.input(mel.unsqueeze(2).contiguous(memory_format=layout))
        source = source.unsqueeze(2)
        chunked = on_cpu and not torch.is_grad_enabled()
        for stage in self.stages:
            assert isinstance(stage, UpsamplingStage)
            x = stage.forward_in_chunks(x, source) if chunked else stage(x, source)
        x = self.output(F.leaky_relu(x, LAST_LEAKY_SLOPE))
        if self.shaper is not None:
            x = x + source
        return torch.tanh(x)[:, :, 0]

    def fold_weight_norm(self) -> None:
        """Computes the normed weights once and for all. For inference; load weights first."""
        fold_weight_norm(self)
        # Else oneDNN copies them into this layout for every piece of a signal.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _check_plan(initial_channels: int, rates: Sequence[int], kernels: Sequence[int]) -> None:
    if len(rates) != len(kernels):
        raise ValueError(
            f"upsample_rates {list(rates)} and upsample_kernels {list(kernels)} must be equally "
            f"long"
        )
    for rate, kernel in zip(rates, kernels, strict=True):
        if kernel < rate or (kernel - rate) % 2:
            raise ValueError(
                f"upsample_kernels: kernel {kernel} does not fit rate {rate}; it must be at least "
                f"the rate and differ from it by an even number"
            )
    if initial_channels % 2 ** len(rates):
        raise ValueError(
            f"initial_channels={initial_channels} must be divisible by {2 ** len(rates)}, because "
            f"each of the {len(rates)} stages halves the channels"
        )


def _check_blocks(kernels: Sequence[int], dilations: Sequence[Sequence[int]]) -> None:
    if len(kernels) != len(dilations) or not kernels:
        raise ValueError(
            f"resblock_kernels {list(kernels)} and resblock_dilations "
            f"{[list(d) for d in dilations]} must be equally long and not empty"
        )
    if any(kernel % 2 == 0 for kernel in kernels):
        raise ValueError(f"resblock_kernels {list(kernels)} must be odd")


def _receptive_frames(stages: Iterable[nn.Module]) -> int:
    """Adds up the reach of the input convolution, the stages and the output convolution, each in
    frames at its own rate."""
    frames, steps_per_frame = 3.0, 1
    for stage in stages:
        assert isinstance(stage, UpsamplingStage)
        frames += stage.reach / steps_per_frame
        steps_per_frame *= stage.rate
    return math.ceil(frames + 3 / steps_per_frame)
