"""The one mel spectrogram of the toolkit: model input, training target, loss and picture."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import melscale_fbanks

from svc.audio.spec import AudioSpec

LOG_FLOOR = 1e-5
"""Smallest mel amplitude before the logarithm; ln(1e-5) = -11.51 is digital silence."""

_MAGNITUDE_EPSILON = 1e-9
"""Added under the square root by the published vocoders; also keeps its gradient finite at 0."""


class MelSpectrogram(nn.Module):
    """Natural-log mel spectrogram with the framing of `AudioSpec`, differentiable.

    The definition is that of the published 44.1 kHz NSF-HiFiGAN vocoders: Hann window, FFT as long
    as the window, STFT without centring over the signal reflect-padded by `spec.pad_samples` on
    both sides, magnitude sqrt(re² + im² + 1e-9), Slaney mel scale and normalisation, natural
    logarithm with a floor of 1e-5.

    Everything is computed in fp32: input of another type is cast, autocast is switched off inside,
    and the window and the filters stay fp32 when the module is cast. (On CUDA the product with the
    filters follows `torch.backends.cuda.matmul`; TF32 there costs about 5e-4 in the log mel.)

    A signal of at most `spec.pad_samples` samples is too short to be reflected that far: it is
    reflected as far as it goes, and the rest of the padding is zeros.

    Args:
        spec: sample rate, frame grid and mel range. Another window and hop make another resolution
            of a multi-resolution loss.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, spec: AudioSpec) -> None:
        super().__init__()
        self.spec = spec
        filters = melscale_fbanks(
            n_freqs=spec.window_samples // 2 + 1,
            f_min=spec.mel_min_hz,
            f_max=spec.mel_max_hz,
            n_mels=spec.mel_bins,
            sample_rate=spec.sample_rate_hz,
            norm="slaney",
            mel_scale="slaney",
        )
        # Made by rule from the spec, so they have no place in a checkpoint.
        self.register_buffer("window", torch.hann_window(spec.window_samples), persistent=False)
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Log mel of `audio`.

        Args:
            audio: [..., T], nominally in [-1, 1], T >= spec.hop_samples.

        Returns:
            [..., M, N] fp32 with N = T // spec.hop_samples.

        Raises:
            ValueError: T is less than one hop.
        """
        return self.from_magnitude(self.magnitude(audio))

    def magnitude(self, audio: Tensor) -> Tensor:
        """STFT magnitude on the same frame grid.

        Args:
            audio: [..., T], T >= spec.hop_samples.

        Returns:
            [..., F, N] fp32 with F = spec.window_samples // 2 + 1; never below sqrt(1e-9).

        Raises:
            ValueError: T is less than one hop.
        """
        samples = audio.shape[-1]
        if samples < self.spec.hop_samples:
            raise ValueError(
                f"MelSpectrogram needs at least one hop of {self.spec.hop_samples} samples and got "
                f"audio of shape {tuple(audio.shape)}."
            )
        with torch.autocast(audio.device.type, enabled=False):
            signal = _reflect(audio.float().reshape(-1, samples), self.spec.pad_samples)
            spectrum = torch.stft(
                signal,
                n_fft=self.spec.window_samples,
                hop_length=self.spec.hop_samples,
                window=self.window,
                center=False,
                return_complex=True,
            )
            power = spectrum.real.square() + spectrum.imag.square()
            magnitude = torch.sqrt(power + _MAGNITUDE_EPSILON)
        return magnitude.reshape(*audio.shape[:-1], *magnitude.shape[-2:])

    def from_magnitude(self, magnitude: Tensor) -> Tensor:
        """Log mel [..., M, N] of an STFT magnitude [..., F, N] that `magnitude` returned.

        For losses that compare both, so that they share one STFT.
        """
        with torch.autocast(magnitude.device.type, enabled=False):
            return torch.log(torch.clamp(self.filters @ magnitude.float(), min=LOG_FLOOR))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow a move to another device, but not a cast to another type."""
        exact: dict[str, Any] = {"window": self.window, "filters": self.filters}
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            moved = getattr(self, name)
            if moved.dtype != buffer.dtype:
                setattr(self, name, buffer.to(moved.device))
        return self


def _reflect(signal: Tensor, pad_samples: int) -> Tensor:
    """[B, T] -> [B, T + 2 * pad_samples], mirrored at both ends, end samples not repeated."""
    reflected = min(pad_samples, signal.shape[-1] - 1)
    signal = functional.pad(signal, (reflected, reflected), mode="reflect")
    missing = pad_samples - reflected
    return functional.pad(signal, (missing, missing))
