"""A sine source that already has the spectral envelope it is meant to end up with."""

import math

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

MAX_GAIN_LN = 12.0
"""Largest correction of a band in nats, about 104 dB."""


class SourceShaper(nn.Module):
    """Filters an excitation so that its mel becomes a given one, up to the finest detail.

    Per frame, the difference between the wanted log mel and the excitation's own, smoothed over
    bands so that harmonics and the gaps between them are left alone, is the gain of a zero-phase
    filter in the STFT domain. A decoder that starts from such a source has only to refine it:
    small models learn in minutes what takes hours from a flat one. Nothing here is learnt.

    Args:
        sample_rate_hz: of the excitation.
        hop_samples: samples per mel frame; even.
        mel_bins: M.
        mel_min_hz: lower end of the mel bands.
        mel_max_hz: upper end of the mel bands.
        window_samples: Hann window and FFT.
        smoothing_bins: width of the smoothing over mel bands, odd.
    """

    mel_filters: Tensor
    band_to_bin: Tensor
    window: Tensor

    def __init__(
        self,
        sample_rate_hz: int,
        hop_samples: int,
        mel_bins: int,
        mel_min_hz: float,
        mel_max_hz: float,
        window_samples: int = 2048,
        smoothing_bins: int = 5,
    ) -> None:
        super().__init__()
        self.hop_samples = hop_samples
        self.window_samples = window_samples
        self.smoothing_bins = smoothing_bins
        self.receptive_frames = math.ceil(window_samples / hop_samples / 2) + 1
        """Frames on each side of a frame that can influence its samples."""
        bins = window_samples // 2 + 1
        filters = torchaudio.functional.melscale_fbanks(
            bins, mel_min_hz, mel_max_hz, mel_bins, sample_rate_hz, "slaney", "slaney"
        )
        self.register_buffer("mel_filters", filters, persistent=False)
        # Each FFT bin takes the gain of the bands that see it; bins that none sees keep gain 0 dB.
        weight = filters.sum(1, keepdim=True).clamp_min(1e-8)
        self.register_buffer("band_to_bin", filters / weight, persistent=False)
        self.register_buffer("window", torch.hann_window(window_samples), persistent=False)

    def forward(self, source: Tensor, mel: Tensor) -> Tensor:
        """source [B, 1, N * hop_samples], mel [B, M, N] natural log -> [B, 1, N * hop_samples].

        No gradient flows into the mel. Computed in fp32 whatever autocast says.
        """
        with torch.autocast(source.device.type, enabled=False):
            half = self.hop_samples // 2
            # Frame j of a centred STFT over this lies on the middle of mel frame j - 1.
            padded = F.pad(source[:, 0].float(), (half, half))
            spectrum = torch.stft(
                padded,
                self.window_samples,
                self.hop_samples,
                window=self.window,
                pad_mode="constant",
                return_complex=True,
            )
            wanted = F.pad(mel.detach().float(), (1, 1), mode="replicate")
            magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
            present = (self.mel_filters.T @ magnitude).clamp_min(1e-5).log()
            gain_ln = self._smoothed(wanted - present).clamp(-MAX_GAIN_LN, MAX_GAIN_LN)
            gain = (self.band_to_bin @ gain_ln).exp()
            shaped = torch.istft(
                spectrum * gain,
                self.window_samples,
                self.hop_samples,
                window=self.window,
                length=padded.shape[-1],
            )
            return shaped[:, None, half:-half]

    def _smoothed(self, log_ratio: Tensor) -> Tensor:
        """Mean over neighbouring bands, [B, M, N] -> [B, M, N]."""
        side = self.smoothing_bins // 2
        bands_last = F.pad(log_ratio.transpose(1, 2), (side, side), mode="replicate")
        return F.avg_pool1d(bands_last, self.smoothing_bins, 1).transpose(1, 2)
