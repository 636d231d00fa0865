"""What a singer that predicts mels asks of the vocoder that renders them."""

from typing import Any, Protocol

from torch import Tensor

from svc.models.sine_source import Randomness, SineSource


class Vocoder(Protocol):
    """Mel and F0 to waveform; an `nn.Module` as well."""

    @property
    def mel_bins(self) -> int:
        """M."""

    @property
    def hop_samples(self) -> int:
        """Samples per frame."""

    @property
    def receptive_frames(self) -> int:
        """Frames of context on each side that can influence an output frame."""

    @property
    def sine_source(self) -> SineSource | None:
        """What makes the excitation; None where there is none."""

    def __call__(
        self,
        mel: Tensor,
        f0_hz: Tensor,
        voiced: Tensor,
        *,
        source: Tensor | None = None,
        rng: Randomness = None,
    ) -> Any:
        """mel [B, M, N] natural log, f0_hz [B, N], voiced [B, N] bool -> [B, 1, N * hop_samples];
        with a ready excitation of that shape as `source`, where there is a sine source."""

    def fold_weight_norm(self) -> None:
        """Computes normed weights once and for all. For inference; load weights first."""
