"""The loop that every sampler runs in."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from svc.diffusion.samplers.base import Sampler
from svc.errors import UserError

Denoise = Callable[[Tensor, Tensor], Tensor]
"""x [B, …] float32, times [B] float32 -> prediction like x: the noise, or for flow the velocity."""


def initial_noise(
    shape: Sequence[int],
    rng: torch.Generator | None,
    temperature: float = 1.0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Normal noise of standard deviation `temperature`, float32, drawn where `rng` lives: the same
    numbers for the same seed, whichever device they go to."""
    drawn = torch.randn(tuple(shape), generator=rng, device=rng.device if rng else device)
    return drawn.mul_(temperature).to(device)


@torch.no_grad()
def sample(
    sampler: Sampler,
    denoise: Denoise,
    x: Tensor,
    *,
    rng: torch.Generator | None = None,
    step_noise: Sequence[Tensor] | Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Go from x to data through all evaluations of `sampler.times`.

    Args:
        sampler: after its `set_steps`.
        denoise: the network.
        x: [B, …] at the first time: `initial_noise`, or noised data for a shallow start.
        rng: draws the noise of ancestral steps.
        step_noise: that noise ready-made, standard normal like x, one per evaluation.
        progress: called after every evaluation with how many are done and how many there are.

    Returns:
        Like x, float32.

    Raises:
        UserError: the network gave values that are not finite.
        ValueError: x is not finite, shapes differ, or too little noise was given.
    """
    count = len(sampler.times)
    if not bool(x.isfinite().all()):
        raise ValueError("Sampling cannot start from an x that is not finite")
    if step_noise is not None and sampler.needs_noise and len(step_noise) < count:
        raise ValueError(f"step_noise holds {len(step_noise)} of {count} evaluations")
    x = x.float()
    # Made in one go: a number sent to a GPU in every step would wait for it every time.
    times = torch.tensor(sampler.times, dtype=torch.float32).to(x.device)
    times = times[:, None].expand(count, x.shape[0])
    for index in range(count):
        noise = None
        if sampler.needs_noise:
            given = None if step_noise is None else step_noise[index]
            noise = initial_noise(x.shape, rng, device=x.device) if given is None else given
        x = sampler.step(index, x, denoise(x, times[index]), noise)
        if progress is not None:
            progress(index + 1, count)
    if not bool(x.isfinite().all()):
        raise UserError(
            "Sampling gave values that are not finite. Try precision=fp32, more steps "
            "(sampler.steps), or another sampler; if it stays, the checkpoint is broken."
        )
    return x
