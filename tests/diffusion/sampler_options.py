"""Every option of `sampler=` as a live sampler, and distributions whose samplings are known."""

from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from svc.config.instantiate import build
from svc.config.paths import conf_dir
from svc.diffusion.samplers.base import Sampler
from svc.diffusion.sampling import sample
from svc.diffusion.schedule import FlowPath, NoiseSchedule, linear_schedule

OPTIONS = sorted(path.stem for path in (conf_dir() / "sampler").glob("*.yaml"))


def settings_of(option: str) -> dict[str, Any]:
    """The plain contents of the option's file."""
    loaded = OmegaConf.to_container(OmegaConf.load(conf_dir() / "sampler" / f"{option}.yaml"))
    assert isinstance(loaded, dict)
    return {str(name): value for name, value in loaded.items()}


def sampler_of(option: str, **changes: Any) -> Sampler:
    """The option's sampler with some settings changed, those that it has."""
    settings = settings_of(option)
    known = {name: value for name, value in changes.items() if name in settings}
    sampler = build(settings | known)
    assert isinstance(sampler, Sampler)
    return sampler


def schedule_of(sampler: Sampler) -> NoiseSchedule | FlowPath:
    """One that the sampler is for."""
    return FlowPath() if sampler.path == "flow" else linear_schedule()


@dataclass(frozen=True)
class Gaussian:
    """Data N(mean, std²), every element by itself, for which the best prediction is known."""

    mean: Tensor
    std: Tensor
    schedule: NoiseSchedule | FlowPath

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of data and noise in x at times t [B], [B, 1, 1]."""
        if isinstance(self.schedule, NoiseSchedule):
            signal, sigma = self.schedule.levels(t)
        else:
            signal, sigma = t, 1 - t
        return signal[:, None, None], sigma[:, None, None]

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """The expected noise, or for flow the expected velocity, given x."""
        signal, sigma = self.levels(t)
        centred = (x - signal * self.mean) / (signal**2 * self.std**2 + sigma**2)
        noise = sigma * centred
        if isinstance(self.schedule, NoiseSchedule):
            return noise
        return self.mean + signal * self.std**2 * centred - noise

    def solution(self, x: Tensor, start: float, end: float) -> Tensor:
        """Where the probability-flow equation takes x from time `start` to `end`."""
        from_signal, from_sigma = self.levels(torch.tensor([start]))
        to_signal, to_sigma = self.levels(torch.tensor([end]))
        spread_from = (from_signal**2 * self.std**2 + from_sigma**2).sqrt()
        spread_to = (to_signal**2 * self.std**2 + to_sigma**2).sqrt()
        return to_signal * self.mean + spread_to / spread_from * (x - from_signal * self.mean)


def gaussian(sampler: Sampler, least_std: float = 0.1, batch: int = 1) -> Gaussian:
    """Means and deviations that differ from element to element, well inside ±1."""
    rng = torch.Generator().manual_seed(11)
    shape = (batch, 6, 20)
    mean = torch.rand(shape, generator=rng) - 0.5
    std = least_std * (1 + torch.rand(shape, generator=rng))
    return Gaussian(mean, std, schedule_of(sampler))


def noise_like(x: Tensor, seed: int = 5) -> Tensor:
    """Standard normal."""
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def end_of(sampler: Sampler) -> float:
    """The time of clean data."""
    return 1.0 if sampler.path == "flow" else -1.0


def sampled(
    sampler: Sampler, data: Gaussian, x: Tensor, seed: int = 0, start: float | None = None
) -> Tensor:
    """What a sampler makes of x with the best prediction there is."""
    sampler.set_steps(data.schedule, start)
    return sample(sampler, data.denoise, x, rng=torch.Generator().manual_seed(seed))
