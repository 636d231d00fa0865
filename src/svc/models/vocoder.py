"""What renders mels."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from svc.models.sine_source import Randomness, SineSource


class Vocoder(nn.Module, ABC):
    """Mel and F0 to waveform."""

    mel_bins: int
    """M."""
    hop_samples: int
    """Samples per frame."""
    receptive_frames: int
    """Frames of context on each side that can influence an output frame."""
    sine_source: SineSource | None
    """What makes the excitation; None where there is none."""

    @abstractmethod
    def forward(
        self,
        mel: Tensor,
        f0_hz: Tensor,
        voiced: Tensor,
        *,
        source: Tensor | None = None,
        rng: Randomness = None,
    ) -> Tensor:
        """mel [B, M, N] natural log, f0_hz [B, N], voiced [B, N] bool -> [B, 1, N * hop_samples];
        with a ready excitation of that shape as `source`, where there is a sine source."""

    @abstractmethod
    def fold_weight_norm(self) -> None:
        """Computes normed weights once and for all. For inference; load weights first."""
