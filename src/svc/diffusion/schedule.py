"""How much noise there is at which time: Gaussian diffusion and rectified flow.

Network time t counts the steps of a schedule, 0 … S - 1, as a denoiser sees it; fractions are
allowed. Clean data lie at t = -1, one step below the first noise level.
"""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svc.errors import UserError
from svc.hardware import in_float64

Prediction = Literal["noise", "v", "data"]
"""What a denoiser predicts: the noise (Ho, Jain & Abbeel 2020), v = signal · noise - sigma · data
(Salimans & Ho 2022), or the clean data (Huang et al. 2022, "ProDiff", section 4.1)."""

CLEAN = -1.0
"""The network time of data without noise."""


class NoiseSchedule:
    """Variance-preserving Gaussian diffusion in S steps: x_t = signal(t) x_0 + sigma(t) noise.

    DDPM (Ho, Jain & Abbeel 2020, section 2). Between the steps, log signal runs in straight lines
    over time, as in DPM-Solver's discrete schedule (Lu et al. 2022, appendix D.2), whose continuous
    time is (t + 1) / S. All arithmetic is float64.

    Args:
        betas: [S], the variance that each step adds, each in (0, 1).

    Raises:
        ValueError: `betas` is not a row of numbers in (0, 1).
    """

    path: Literal["diffusion"] = "diffusion"

    def __init__(self, betas: NDArray[np.float64] | Tensor) -> None:
        values = np.asarray(betas, dtype=np.float64)
        if values.ndim != 1 or len(values) == 0 or not ((values > 0) & (values < 1)).all():
            raise ValueError(f"betas must be [S] with all values in (0, 1); got {values}")
        self.steps = len(values)
        alphas_cumprod = np.cumprod(1 - values)
        self.betas = torch.from_numpy(values.copy())
        self.alphas_cumprod = torch.from_numpy(alphas_cumprod)
        # One entry more than steps: index 0 is clean data, index t + 1 is network time t.
        self._log_signal = np.concatenate([[0.0], 0.5 * np.log(alphas_cumprod)])
        self._places = np.arange(self.steps + 1) - 1.0
        self._tables: dict[torch.device, Tensor] = {}

    def log_signal(self, t: float) -> float:
        """Logarithm of `signal`."""
        return float(np.interp(t, self._places, self._log_signal))

    def signal(self, t: float) -> float:
        """Factor of the data at network time t: sqrt(alpha_cumprod)."""
        return math.exp(self.log_signal(t))

    def sigma(self, t: float) -> float:
        """Standard deviation of the noise at network time t: sqrt(1 - alpha_cumprod)."""
        return math.sqrt(-math.expm1(2 * self.log_signal(t)))

    def log_snr_half(self, t: float) -> float:
        """lambda(t) = log(signal / sigma), falling with t; infinite for clean data."""
        sigma = self.sigma(t)
        return self.log_signal(t) - math.log(sigma) if sigma > 0 else math.inf

    def time_at(self, log_snr_half: float) -> float:
        """The network time whose `log_snr_half` is given; times outside -1 … S - 1 do not occur."""
        # log signal from lambda: signal² = 1 / (1 + exp(-2 lambda)).
        log_signal = -0.5 * float(np.logaddexp(0.0, -2 * log_snr_half))
        return float(np.interp(-log_signal, -self._log_signal, self._places))

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """signal and sigma, float32 like t [B], on the device of t, without waiting for it."""
        place = in_float64(t)
        table = self._tables.get(place.device)
        if table is None:
            table = torch.from_numpy(self._log_signal).to(place.device)
            self._tables[place.device] = table
        position = (place + 1).clamp(0, self.steps)
        below = position.floor().clamp(max=self.steps - 1).long()
        log_signal = torch.lerp(table[below], table[below + 1], position - below)
        signal, sigma = log_signal.exp().float(), (-torch.expm1(2 * log_signal)).sqrt().float()
        return signal.to(t.device), sigma.to(t.device)

    def noised(self, data: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t [B, …] float32 of data and noise [B, …] at network times t [B]."""
        signal, sigma = self._levels_like(data, t)
        return signal * data.float() + sigma * noise.float()

    def v_target(self, data: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """v = signal · noise - sigma · data, what a v-predicting network is trained on."""
        signal, sigma = self._levels_like(data, t)
        return signal * noise.float() - sigma * data.float()

    def noise_from_v(self, x: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """The noise prediction [B, …] float32 that a v prediction at x, t [B] amounts to."""
        signal, sigma = self._levels_like(x, t)
        return signal * v.float() + sigma * x.float()

    def data_from_v(self, x: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """The clean data [B, …] float32 that a v prediction at x, t [B] amounts to."""
        signal, sigma = self._levels_like(x, t)
        return signal * x.float() - sigma * v.float()

    def noise_from_data(self, x: Tensor, t: Tensor, data: Tensor) -> Tensor:
        """The noise prediction [B, …] float32 that a data prediction at x, t [B] amounts to."""
        signal, sigma = self._levels_like(x, t)
        return (x.float() - signal * data.float()) / sigma

    def data_from_noise(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The clean data [B, …] float32 that a noise prediction at x, t [B] amounts to."""
        signal, sigma = self._levels_like(x, t)
        return (x.float() - sigma * noise.float()) / signal

    def _levels_like(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if t.shape != x.shape[:1]:
            raise ValueError(f"t {list(t.shape)} must hold one time per item of {list(x.shape)}")
        signal, sigma = self.levels(t)
        shape = (-1, *[1] * (x.ndim - 1))
        return signal.view(shape), sigma.view(shape)


class FlowPath:
    """Rectified flow (Liu, Gong & Liu 2023): x_t = (1 - t) noise + t data, with constant velocity
    data - noise. Time runs from 0 (noise) to 1 (data)."""

    path: Literal["flow"] = "flow"

    def noised(self, data: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t [B, …] float32 of data and noise [B, …] at flow times t [B] in 0 … 1."""
        if t.shape != data.shape[:1]:
            raise ValueError(f"t {list(t.shape)} must hold one time per item of {list(data.shape)}")
        time = t.float().view(-1, *[1] * (data.ndim - 1))
        return torch.lerp(noise.float(), data.float(), time)

    def velocity(self, data: Tensor, noise: Tensor) -> Tensor:
        """What the network is trained on, float32."""
        return data.float() - noise.float()


def linear_schedule(
    steps: int = 1000, max_beta: float = 0.02, min_beta: float = 1e-4
) -> NoiseSchedule:
    """Betas in a straight line from `min_beta` to `max_beta` (Ho, Jain & Abbeel 2020, section 4).

    Args:
        steps: S, from 1.
        max_beta: of the last step; published DiffSVC models have 0.01 or 0.02.
        min_beta: of the first step.

    Raises:
        UserError: a value is out of range.
    """
    _check_steps(steps)
    if not 0 < min_beta <= max_beta < 1:
        raise UserError(
            f"The noise schedule needs 0 < min_beta <= max_beta < 1; got min_beta={min_beta:g}, "
            f"max_beta={max_beta:g}."
        )
    return NoiseSchedule(np.linspace(min_beta, max_beta, steps))


def cosine_schedule(
    steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999
) -> NoiseSchedule:
    """alpha_cumprod falls like a squared cosine (Nichol & Dhariwal 2021, section 3.2), on the grid
    of the published DiffSVC code, which ends half a step later than the paper's.

    Args:
        steps: S, from 1.
        offset: keeps the first betas from vanishing.
        max_beta: betas are cut off here.

    Raises:
        UserError: a value is out of range.
    """
    _check_steps(steps)
    if offset <= 0 or not 0 < max_beta < 1:
        raise UserError(
            f"The cosine schedule needs offset > 0 and 0 < max_beta < 1; got offset={offset:g}, "
            f"max_beta={max_beta:g}."
        )
    points = np.linspace(0, steps + 1, steps + 1)
    remaining = np.cos((points / (steps + 1) + offset) / (1 + offset) * np.pi / 2) ** 2
    return NoiseSchedule(np.clip(1 - remaining[1:] / remaining[:-1], 1e-12, max_beta))


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise UserError(f"The noise schedule needs steps from 1; got steps={steps}.")
