"""Signals with known properties, and the inputs that break extractors."""

import math

import torch
from torch import Tensor

RATE_HZ = 44_100
HOP = 512


def sine(frequency_hz: float, seconds: float, amplitude: float = 0.5) -> Tensor:
    """[T] a sine."""
    time_s = torch.arange(round(seconds * RATE_HZ), dtype=torch.float64) / RATE_HZ
    return (amplitude * torch.sin(2 * math.pi * frequency_hz * time_s)).float()


def sawtooth(f0_hz: Tensor, harmonics: int = 12) -> Tensor:
    """[T] a band-limited sawtooth that follows f0_hz [T]."""
    phase = 2 * math.pi * torch.cumsum(f0_hz.double() / RATE_HZ, dim=0)
    return sum(0.2 / k * torch.sin(k * phase) for k in range(1, harmonics + 1)).float()


def vowels(seconds: float, seed: int = 0) -> Tensor:
    """[T] a gliding harmonic tone whose spectrum wanders, with pauses: like a voice, roughly."""
    generator = torch.Generator().manual_seed(seed)
    samples = round(seconds * RATE_HZ)
    time_s = torch.arange(samples) / RATE_HZ
    tone = sawtooth(180 * 2 ** (0.4 * torch.sin(2 * math.pi * 0.7 * time_s)), harmonics=20)
    noise = 0.02 * torch.randn(samples, generator=generator)
    colour = 0.5 + 0.5 * torch.sin(2 * math.pi * 1.3 * time_s)
    loud = (torch.sin(2 * math.pi * 0.45 * time_s + 0.5) > -0.6).float()
    return (colour * tone + (1 - colour) * tone.roll(1).diff(prepend=tone[:1]) * 4 + noise) * loud


BAD_INPUTS = {
    "empty": torch.zeros(0),
    "one sample": torch.ones(1),
    "one sample short of a hop": torch.ones(HOP - 1),
    "one hop": torch.randn(HOP, generator=torch.Generator().manual_seed(0)),
    "silence": torch.zeros(RATE_HZ // 2),
    "constant": torch.full((RATE_HZ // 2,), 0.7),
    "square wave": torch.where(torch.arange(RATE_HZ) % 200 < 100, 1.0, -1.0),
    "one click": torch.zeros(RATE_HZ // 2).index_fill(0, torch.tensor([10_000]), 1.0),
    "odd length": torch.randn(30_001, generator=torch.Generator().manual_seed(1)).clamp(-1, 1),
    "denormals": torch.full((RATE_HZ // 2,), 1e-40).cumsum(0),
}
