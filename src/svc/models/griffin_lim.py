"""A vocoder without weights: the fallback for smoke tests."""

import math

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

from svc.models.sine_source import Randomness
from svc.models.vocoder import Vocoder

LOG_FLOOR = math.log(1e-5)
"""Where mels end: what lies there is digital silence."""
LOUDEST_LN = 8.0
"""Above the mel of any audio in [-1, 1] (a full-scale sine reaches about 3). Models at the
beginning of their training predict hundreds, whose exponential is infinite."""
_NNLS_STEPS = 30
_TINY = 1e-8


class GriffinLim(Vocoder):
    """Mel to waveform by phase reconstruction. A weightless fallback, not a way to sing.

    For smoke tests, and for hearing what a mel holds before there is a vocoder. It sounds hollow
    and reverberant; F0 is not looked at, so that a mel in another key than its F0 stays in its own
    key. Nothing is learnt, and no gradient flows into the mel.

    The magnitude is the non-negative one whose mel comes closest, by multiplicative updates (Lee
    and Seung 2001). The phase is that of fast Griffin-Lim (Perraudin, Balazs and Søndergaard 2013),
    started from the phase of white noise: a cut of the mel with the same cut of that noise
    (`source`) gives the same cut of the waveform, `receptive_frames` away from the cut's ends.
    Framing as in all mels here: not centred, (window - hop) / 2 samples around the signal.

    Args:
        mel_bins: M.
        hop_samples: samples per frame.
        sample_rate_hz: of the waveform.
        window_samples: of the mel's Hann window and FFT; window - hop must be even, hop at most a
            quarter of the window.
        mel_min_hz: lower end of the mel bands.
        mel_max_hz: upper end of the mel bands; None for half the sample rate.
        iterations: of the phase reconstruction.
        momentum: alpha of fast Griffin-Lim; 0 for the plain method.

    Raises:
        ValueError: window and hop do not fit, or there is no iteration.
    """

    sine_source: None = None
    """There is none."""
    filters: Tensor
    window: Tensor

    def __init__(
        self,
        *,
        mel_bins: int = 128,
        hop_samples: int = 512,
        sample_rate_hz: int = 44_100,
        window_samples: int = 2048,
        mel_min_hz: float = 0.0,
        mel_max_hz: float | None = None,
        iterations: int = 32,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        if (window_samples - hop_samples) % 2 or 4 * hop_samples > window_samples:
            raise ValueError(
                f"window_samples={window_samples} must be at least four times "
                f"hop_samples={hop_samples} and differ from it by an even number"
            )
        if iterations < 1 or not 0 <= momentum < 1:
            raise ValueError(
                f"iterations={iterations} must be at least 1, momentum={momentum} from 0 to below 1"
            )
        self.mel_bins = mel_bins
        self.hop_samples = hop_samples
        self.window_samples = window_samples
        self.iterations = iterations
        self.momentum = momentum
        neighbours = math.ceil(window_samples / hop_samples) - 1
        self.receptive_frames = (iterations + 2) * neighbours
        """Frames on each side that can influence a frame: every iteration mixes those whose
        windows overlap, and so do the first and the last overlap-add."""
        filters = torchaudio.functional.melscale_fbanks(
            window_samples // 2 + 1,
            mel_min_hz,
            sample_rate_hz / 2 if mel_max_hz is None else mel_max_hz,
            mel_bins,
            sample_rate_hz,
            "slaney",
            "slaney",
        )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(window_samples), persistent=False)

    @torch.no_grad()
    def forward(
        self,
        mel: Tensor,
        f0_hz: Tensor,
        voiced: Tensor,
        *,
        source: Tensor | None = None,
        rng: Randomness = None,
    ) -> Tensor:
        """Renders a waveform, in fp32 whatever autocast says.

        Args:
            mel: [B, M, N], natural log.
            f0_hz: [B, N], not used.
            voiced: [B, N], not used.
            source: [B, 1, N * hop_samples] noise whose phase the reconstruction starts from.
            rng: draws that noise where there is none: a generator, a seed, or None for fresh
                numbers.

        Returns:
            [B, 1, N * hop_samples], nominally in [-1, 1]; zeros where the mel is at its floor.

        Raises:
            ValueError: a shape is wrong.
        """
        if mel.ndim != 3 or mel.shape[1] != self.mel_bins:
            raise ValueError(f"mel {list(mel.shape)} must be [B, {self.mel_bins}, N]")
        batch, _, frames = mel.shape
        expected = (batch, 1, frames * self.hop_samples)
        if f0_hz.shape != (batch, frames):
            raise ValueError(f"F0 {list(f0_hz.shape)} must be [{batch}, {frames}], like the mel")
        if source is None:
            source = white_noise(expected, rng, mel.device)
        if source.shape != expected:
            raise ValueError(f"the source {list(source.shape)} must be {list(expected)}")
        if frames == 0:
            return mel.new_zeros(expected, dtype=torch.float32)
        with torch.autocast(mel.device.type, enabled=False):
            return self._reconstruct(self.magnitude(mel.float()), source[:, 0].float())[:, None]

    def magnitude(self, mel: Tensor) -> Tensor:
        """Natural-log mel [B, M, N] -> magnitude [B, F, N] >= 0 that has about this mel."""
        amplitude = torch.where(mel > LOG_FLOOR + 1e-3, mel.clamp(max=LOUDEST_LN).exp(), 0.0)
        wanted = self.filters @ amplitude
        # A start between the bands' amplitudes; multiplication keeps it from being negative.
        magnitude = wanted / (self.filters @ self.filters.sum(0)[:, None]).clamp_min(_TINY)
        for _ in range(_NNLS_STEPS):
            present = self.filters @ (self.filters.T @ magnitude)
            magnitude = magnitude * wanted / present.clamp_min(_TINY)
        return magnitude

    def _reconstruct(self, magnitude: Tensor, noise: Tensor) -> Tensor:
        """magnitude [B, F, N], noise [B, T] -> waveform [B, T]."""
        pad = (self.window_samples - self.hop_samples) // 2
        direction = _unit(self._spectra(F.pad(noise, (pad, pad))))
        before = torch.zeros_like(direction)
        for _ in range(self.iterations):
            consistent = self._spectra(self._waveform(magnitude * direction))
            direction = _unit(consistent + self.momentum * (consistent - before))
            before = consistent
        return self._waveform(magnitude * direction)[:, pad:-pad]

    def _spectra(self, signal: Tensor) -> Tensor:
        """[B, T + 2 pad] -> complex [B, F, N]."""
        return torch.stft(
            signal,
            self.window_samples,
            self.hop_samples,
            window=self.window,
            center=False,
            return_complex=True,
        )

    def _waveform(self, spectra: Tensor) -> Tensor:
        """Complex [B, F, N] -> the signal [B, T + 2 pad] whose spectra come closest: weighted
        overlap-add (Griffin and Lim 1984), which `torch.istft` refuses without centring."""
        frames = torch.fft.irfft(spectra, n=self.window_samples, dim=1) * self.window[:, None]
        weights = self.window.square()[None, :, None].expand(1, -1, frames.shape[-1])
        added, weight = (self._overlap_added(part) for part in (frames, weights))
        return added / weight.clamp_min(_TINY)

    def _overlap_added(self, frames: Tensor) -> Tensor:
        """[B, window, N] -> [B, (N - 1) hop + window]."""
        length = (frames.shape[-1] - 1) * self.hop_samples + self.window_samples
        signal = F.fold(frames, (1, length), (1, self.window_samples), stride=(1, self.hop_samples))
        return signal[:, 0, 0]

    def fold_weight_norm(self) -> None:
        """There are no weights."""


def white_noise(shape: tuple[int, ...], rng: Randomness, device: torch.device) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    if isinstance(rng, int):
        rng = torch.Generator(device).manual_seed(rng)
    drawn_on = device if rng is None else rng.device
    return torch.randn(shape, generator=rng, device=drawn_on).to(device)


def _unit(spectra: Tensor) -> Tensor:
    """The phase, as complex numbers of length 1."""
    return spectra / spectra.abs().clamp_min(1e-16)
