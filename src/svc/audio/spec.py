"""The framing that every part of the toolkit agrees on."""

from dataclasses import dataclass

from svc.errors import UserError


@dataclass(frozen=True)
class AudioSpec:
    """Sample rate, frame grid and mel definition.

    N samples give exactly N // hop_samples frames. Frame i belongs to samples
    [hop_samples * i, hop_samples * (i + 1)) and its analysis window is centred on the middle of
    that span. This is the framing of the published 44.1 kHz NSF-HiFiGAN vocoders (STFT without
    centring over a signal that is reflect-padded by (window - hop) / 2 on both sides).

    Raises:
        UserError: a value is out of range, or window - hop is odd.
    """

    sample_rate_hz: int = 44_100
    hop_samples: int = 512
    window_samples: int = 2048
    """Length of the Hann window and of the FFT."""
    mel_bins: int = 128
    mel_min_hz: float = 0.0
    mel_max_hz: float = 22_050.0

    def __post_init__(self) -> None:
        nyquist_hz = self.sample_rate_hz / 2
        if self.hop_samples < 1 or self.window_samples < self.hop_samples:
            raise UserError(
                f"audio.window_samples={self.window_samples} must be at least "
                f"audio.hop_samples={self.hop_samples}, and both positive."
            )
        if (self.window_samples - self.hop_samples) % 2:
            raise UserError(
                f"audio.window_samples - audio.hop_samples is "
                f"{self.window_samples - self.hop_samples}; it must be even, because half of it is "
                f"padded on each side."
            )
        if not 0 <= self.mel_min_hz < self.mel_max_hz <= nyquist_hz:
            raise UserError(
                f"audio.mel_min_hz={self.mel_min_hz} and audio.mel_max_hz={self.mel_max_hz} must "
                f"satisfy 0 <= min < max <= {nyquist_hz:g} (half of audio.sample_rate_hz)."
            )

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sample_rate_hz / self.hop_samples

    @property
    def pad_samples(self) -> int:
        """Samples of reflection added on each side before the STFT."""
        return (self.window_samples - self.hop_samples) // 2

    def frames(self, samples: int) -> int:
        """Number of whole frames in `samples` samples."""
        return samples // self.hop_samples
