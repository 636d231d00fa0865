"""Mel-frequency cepstral coefficients: content without weights."""

import soxr
import torch
from torch import Tensor
from torchaudio.functional import create_dct

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.errors import UserError
from svc.features.content.base import ContentEncoder, FrameGrid, checked_audio
from svc.features.content.standardisation import standardised

_SILENT_PEAK = 1e-5
"""A third of the smallest 16-bit step: what stays below holds nothing."""

_SPREAD_FLOOR = 3.0
"""Added to the variance as its square, in liftered units; in song the deviation is 5 to 15."""


class MfccContent(ContentEncoder):
    """Liftered, mean-and-variance-normalised MFCCs on the mel's own frames.

    What is sung is in the shape of the spectral envelope: the cepstrum's low coefficients. c0, the
    level, is left out because energy is an input of its own. From about c9 on the harmonics of high
    voices take over, that is pitch: converting between the demo's singers with a small regression
    from a singer's own MFCCs to their mel, 8 coefficients left 0.61 of the cepstral distortion
    between the singers, 10 left 0.65, 13 left 0.70.

    Who sings is partly in the mean and the spread of each coefficient (tilt, vocal-tract length,
    bandwidths, microphone), which normalisation over the piece removes. So it also removes what a
    piece of one single vowel has in common: give it pieces of a few seconds with changing sounds.
    Frames that are silent do not count for these statistics, so that pauses do not move them.

    Davis and Mermelstein (1980); the lifter is that of HTK: 1 + L/2 sin(pi n / L). Before the
    normalisation it levels the spreads, so that one floor serves every coefficient.

    Args:
        coefficients: C, from c1 on; below `mel_bins`.
        lifter: L, at least `coefficients`; 0 turns it off.
        mel_bins: filters from which the cepstrum is taken.
        mel_min_hz: lower end of the filters.
        mel_max_hz: upper end of the filters; higher up there is more voice than content.
        active_db: frames within this many dB of the loudest one count for the statistics.
        sample_rate_hz: rate of the frame grid; audio of another rate is resampled to it.
        hop_samples, window_samples: framing, as the mel's.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        coefficients: int = 8,
        lifter: int = 22,
        mel_bins: int = 40,
        mel_min_hz: float = 50.0,
        mel_max_hz: float = 8000.0,
        active_db: float = 40.0,
        sample_rate_hz: int = 44_100,
        hop_samples: int = 512,
        window_samples: int = 2048,
    ) -> None:
        if not 1 <= coefficients < mel_bins:
            raise UserError(
                f"content.coefficients={coefficients} must be at least 1 and below "
                f"content.mel_bins={mel_bins}."
            )
        if lifter and lifter < coefficients:
            raise UserError(
                f"content.lifter={lifter} must be 0 (none) or at least "
                f"content.coefficients={coefficients}; beyond it the weights turn negative."
            )
        if not active_db > 0:
            raise UserError(f"content.active_db={active_db} must be above 0.")
        spec = AudioSpec(
            sample_rate_hz=sample_rate_hz,
            hop_samples=hop_samples,
            window_samples=window_samples,
            mel_bins=mel_bins,
            mel_min_hz=mel_min_hz,
            mel_max_hz=mel_max_hz,
        )
        self.spec = spec
        self.channels = coefficients
        self.active_db = active_db
        hop_s = hop_samples / sample_rate_hz
        self.grid = FrameGrid(step_s=hop_s, first_s=hop_s / 2)
        self._mel = MelSpectrogram(spec)
        order = torch.arange(1, coefficients + 1)
        weights = 1 + lifter / 2 * torch.sin(torch.pi * order / lifter) if lifter else 1.0
        cosines = create_dct(coefficients + 1, mel_bins, norm="ortho")[:, 1:]  # [M, C]
        self._cosines = (cosines * weights).T.contiguous()  # [C, M]

    @torch.no_grad()
    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """audio [T] float32 -> [C, N] float32, on the CPU, finite, about unit variance.

        N = T // hop_samples. Features do not depend on the level of the piece; where nothing
        sounds they are 0.

        Raises:
            ValueError: audio is not one-dimensional or not finite.
        """
        audio = checked_audio(audio)
        if sample_rate_hz != self.spec.sample_rate_hz:
            resampled = soxr.resample(audio.numpy(), sample_rate_hz, self.spec.sample_rate_hz)
            audio = torch.from_numpy(resampled)
        frames = self.spec.frames(audio.shape[0])
        peak = audio.abs().max() if frames else 0.0
        if peak < _SILENT_PEAK:
            return torch.zeros(self.channels, frames)
        log_mel = self._mel(audio / peak)
        return standardised(self._cosines @ log_mel, self._active(log_mel), _SPREAD_FLOOR)

    def _active(self, log_mel: Tensor) -> Tensor:
        """log_mel [M, N] -> [N] bool, at least one of them true: the frames that sound."""
        level_db = 10 / torch.log(torch.tensor(10.0)) * torch.logsumexp(2 * log_mel, dim=0)
        return level_db >= level_db.max() - self.active_db
