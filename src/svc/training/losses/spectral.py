"""Multi-resolution spectral distances of two waveforms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec


@dataclass(frozen=True)
class SpectralLosses:
    """What `MultiResolutionSpectralLoss` returns; fp32 scalars, 0 for equal waveforms."""

    mel: Tensor
    """Mean over resolutions of the mean absolute difference of the natural-log mels."""
    stft: Tensor
    """Mean over resolutions of log-magnitude L1 plus spectral convergence."""


@dataclass(frozen=True)
class Resolution:
    """One STFT of a multi-resolution loss."""

    window_samples: int
    hop_samples: int
    mel_bins: int


DEFAULT_RESOLUTIONS = (
    Resolution(2048, 512, 128),
    Resolution(1024, 256, 80),
    Resolution(512, 128, 40),
)
"""Windows of 46, 23 and 12 ms at 44.1 kHz, with no more mel bins than the FFT can fill."""


class MultiResolutionSpectralLoss(nn.Module):
    """Mel L1 and STFT distance of waveforms at several resolutions, always in fp32.

    Both distances of a resolution share one STFT. The STFT part is that of Parallel WaveGAN
    (Yamamoto et al. 2020, section 2.2): mean |ln |S| - ln |T|| plus the
    spectral convergence ‖|T| - |S|‖ / ‖|T|‖ over the whole batch.

    Args:
        spec: sample rate and mel range; its frame grid is replaced by that of each resolution.
        resolutions: the STFTs to compare at.
    """

    def __init__(
        self, spec: AudioSpec, resolutions: Sequence[Resolution] = DEFAULT_RESOLUTIONS
    ) -> None:
        super().__init__()
        if not resolutions:
            raise ValueError("MultiResolutionSpectralLoss needs at least one resolution, got none.")
        self.spectrograms = nn.ModuleList(
            MelSpectrogram(
                replace(
                    spec,
                    window_samples=resolution.window_samples,
                    hop_samples=resolution.hop_samples,
                    mel_bins=resolution.mel_bins,
                )
            )
            for resolution in resolutions
        )

    def forward(self, predicted: Tensor, target: Tensor) -> SpectralLosses:
        """Distances of `predicted` from `target`.

        Args:
            predicted: [B, 1, T] or [B, T] audio in [-1, 1].
            target: the same shape; takes no gradient.
        """
        mel_distances = []
        stft_distances = []
        for spectrogram in self.spectrograms:
            assert isinstance(spectrogram, MelSpectrogram)  # for the type checker
            with torch.no_grad():
                wanted = spectrogram.magnitude(target)
                wanted_mel = spectrogram.from_magnitude(wanted)
            magnitude = spectrogram.magnitude(predicted)
            mel_distances.append((spectrogram.from_magnitude(magnitude) - wanted_mel).abs().mean())
            stft_distances.append(_stft_distance(magnitude, wanted))
        return SpectralLosses(torch.stack(mel_distances).mean(), torch.stack(stft_distances).mean())


def _stft_distance(magnitude: Tensor, wanted: Tensor) -> Tensor:
    """Log-magnitude L1 plus spectral convergence of magnitudes [..., F, N]."""
    log_l1 = (magnitude.log() - wanted.log()).abs().mean()
    # `magnitude` never reaches 0, so neither does the divisor nor the argument of a logarithm.
    difference: Tensor = torch.linalg.vector_norm(wanted - magnitude)
    size: Tensor = torch.linalg.vector_norm(wanted)
    return log_l1 + difference / size
