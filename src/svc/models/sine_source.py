"""Sine source of the neural source-filter model (Wang, Takaki & Yamagishi 2019)."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svc.hardware import in_float64

INITIAL_MIX = 2.0
"""Euclidean norm of the mixing weights at first."""

Randomness = torch.Generator | int | None
"""A generator, a seed, or None for fresh random numbers."""

F0Upsampling = Literal["masked", "zeroed", "continuous"]
"""How frames of F0 become samples, see `SineSource`."""


class SineSource(nn.Module):
    """Turns an F0 contour into an excitation: harmonics where voiced, noise where not.

    The fundamental and its overtones, each with its own random initial phase, are mixed by a
    learned linear layer and tanh. Overtones above half the sample rate are silent, not folded
    back. A frame whose F0 is 0 is
    unvoiced. The phase is accumulated in float64, so that 30 minutes do not
    drift, and everything runs in float32 or better also under autocast.

    Args:
        sample_rate_hz: rate of the excitation.
        hop_samples: samples per frame of F0.
        harmonics: overtones above the fundamental.
        amplitude: of each sine; unvoiced noise has a third of it as its standard deviation.
        voiced_noise_std: standard deviation of the noise added to voiced samples.
        f0_upsampling: how frames become samples. "masked" interpolates F0 through unvoiced frames
            and switches by the voiced mask of the frame. "zeroed" is the rule of the published
            vocoders: F0 is set to zero where unvoiced and then interpolated, so that it ramps
            to zero over half a frame on each side of a border. "continuous" is what fish-diffusion
            trained its singers with: the harmonics go on through unvoiced frames, wherever F0 was
            interpolated, and `voiced` is not looked at.
    """

    def __init__(
        self,
        sample_rate_hz: int = 44_100,
        hop_samples: int = 512,
        harmonics: int = 8,
        *,
        amplitude: float = 0.1,
        voiced_noise_std: float = 0.003,
        f0_upsampling: F0Upsampling = "masked",
    ) -> None:
        super().__init__()
        if f0_upsampling not in get_args(F0Upsampling):
            known = ", ".join(get_args(F0Upsampling))
            raise ValueError(f"f0_upsampling={f0_upsampling!r} must be one of {known}")
        self.sample_rate_hz = sample_rate_hz
        self.hop_samples = hop_samples
        self.sines = harmonics + 1
        self.amplitude = amplitude
        self.voiced_noise_std = voiced_noise_std
        self.f0_upsampling = f0_upsampling
        self.mix = nn.Linear(self.sines, 1)
        # All sines at one level: a decoder learns sooner to damp harmonics than to make them.
        nn.init.constant_(self.mix.weight, INITIAL_MIX / math.sqrt(self.sines))
        nn.init.zeros_(self.mix.bias)

    def forward(self, f0_hz: Tensor, voiced: Tensor, *, rng: Randomness = None) -> Tensor:
        """f0_hz [B, N] and voiced [B, N] bool -> excitation [B, 1, N * hop_samples] in (-1, 1).

        Raises:
            ValueError: the shapes differ or are not [B, N].
        """
        if f0_hz.ndim != 2 or voiced.shape != f0_hz.shape:
            raise ValueError(
                f"f0_hz {list(f0_hz.shape)} and voiced {list(voiced.shape)} must both be [B, N]"
            )
        initial_phase, noise = self.draw(f0_hz, rng)
        f0_samples_hz, voiced_samples = self.upsample(f0_hz, voiced)
        return self.excite(f0_samples_hz, voiced_samples, initial_phase, noise)

    def draw(self, f0_hz: Tensor, rng: Randomness = None) -> tuple[Tensor, Tensor]:
        """Initial phases [B, sines] in cycles (0 for the fundamental) and standard normal noise
        for f0_hz [B, N], on its device. The same numbers for the same seed.

        The published vocoders add noise to every sine, [B, sines, T]; once mixed, that is one noise
        of the same power, and drawing just that, [B, 1, T], is much quicker with many sines.
        """
        if isinstance(rng, int):
            rng = torch.Generator(f0_hz.device).manual_seed(rng)
        device = f0_hz.device if rng is None else rng.device
        batch, frames = f0_hz.shape
        initial_phase = torch.rand(batch, self.sines, generator=rng, device=device)
        initial_phase[:, 0] = 0
        streams = 1 if self.f0_upsampling == "masked" else self.sines
        noise = torch.randn(
            (batch, streams, frames * self.hop_samples), generator=rng, device=device
        )
        return initial_phase.to(f0_hz.device), noise.to(f0_hz.device)

    def upsample(self, f0_hz: Tensor, voiced: Tensor) -> tuple[Tensor, Tensor]:
        """f0_hz, voiced [B, N] -> F0 [B, T] float32 and voiced [B, T] bool at every sample."""
        f0_hz = f0_hz.float()
        if self.f0_upsampling == "zeroed":
            f0_hz = f0_hz * voiced
        samples = f0_hz.shape[-1] * self.hop_samples
        f0_samples_hz = F.interpolate(f0_hz[:, None], size=samples, mode="linear")[:, 0]
        if self.f0_upsampling != "masked":
            return f0_samples_hz, f0_samples_hz > 0
        # Without an F0, a voiced frame would be a constant offset.
        voiced = voiced.bool() & (f0_hz > 0)
        return f0_samples_hz, voiced.repeat_interleave(self.hop_samples, dim=-1)

    def excite(
        self, f0_samples_hz: Tensor, voiced_samples: Tensor, initial_phase: Tensor, noise: Tensor
    ) -> Tensor:
        """The excitation for given random numbers.

        Args:
            f0_samples_hz: [B, T].
            voiced_samples: [B, T] bool.
            initial_phase: [B, sines] in cycles.
            noise: [B, sines, T] standard normal, or [B, 1, T] for one of the mixture's power.

        Returns:
            [B, 1, T] float32 in (-1, 1).
        """
        with torch.autocast(f0_samples_hz.device.type, enabled=False):
            # The mixture is linear: mixing first leaves one channel to be masked and scaled.
            weight = self.mix.weight.float()
            sines = self._sines(f0_samples_hz, initial_phase)
            sine = torch.bmm(weight.expand(len(sines), 1, -1), sines)
            of_all = noise.shape[1] == 1 and self.sines > 1
            noise = weight.norm() * noise.float() if of_all else weight @ noise.float()
            mask = voiced_samples[:, None]
            noise_std = torch.where(mask, self.voiced_noise_std, self.amplitude / 3)
            mixture = self.amplitude * mask * sine + noise_std * noise
            return torch.tanh(mixture + self.mix.bias.float())

    @torch.no_grad()
    def _sines(self, f0_samples_hz: Tensor, initial_phase: Tensor) -> Tensor:
        """[B, sines, T] float32, silent above half the sample rate. Made in place: with many sines
        each pass over them, and each copy, is a noticeable share of a small model's step."""
        cycles = torch.cumsum(in_float64(f0_samples_hz) / self.sample_rate_hz, dim=-1)
        phase = (2 * math.pi) * cycles.frac().float().to(f0_samples_hz.device)[:, None]
        order = torch.arange(1, self.sines + 1, dtype=phase.dtype, device=phase.device)[:, None]
        offset = (2 * math.pi) * initial_phase.float()[:, :, None]
        sines = (order * phase).add_(offset).sin_()
        inaudible = order >= (self.sample_rate_hz / 2) / f0_samples_hz[:, None]
        return sines.masked_fill_(inaudible, 0.0)
