"""What single samplers promise beyond the contract: orders, step counts, settings."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import pytest
import torch

from diffusion.sampler_options import (
    OPTIONS,
    Gaussian,
    end_of,
    gaussian,
    noise_like,
    sampled,
    sampler_of,
    settings_of,
)
from svc.diffusion.samplers.base import Sampler
from svc.diffusion.samplers.ddim import Ddim
from svc.diffusion.samplers.ddpm import Ddpm
from svc.diffusion.samplers.dpm_solver_pp import DpmSolverPp
from svc.diffusion.samplers.euler import Euler
from svc.diffusion.samplers.grid import even_times, whole_times
from svc.diffusion.samplers.heun import Heun
from svc.diffusion.samplers.unipc import UniPc
from svc.diffusion.sampling import sample
from svc.diffusion.schedule import cosine_schedule, linear_schedule
from svc.errors import UserError

DETERMINISTIC = [option for option in OPTIONS if not sampler_of(option).needs_noise]


@pytest.mark.parametrize("steps", [7, 13, 33, 300])
@pytest.mark.parametrize("option", DETERMINISTIC)
def test_any_number_of_steps_comes_nearer(option: str, steps: int) -> None:
    """Also those that do not divide the schedule."""
    sampler = sampler_of(option, steps=steps)
    data = gaussian(sampler)
    x = noise_like(data.mean)
    found = sampled(sampler, data, x)
    expected = data.solution(x, sampler.times[0], end_of(sampler))
    # The first guess of any solver, all noise gone at once, is the mean of the data.
    at_first = float((data.mean - expected).abs().mean())
    assert float((found - expected).abs().mean()) < at_first * min(0.8, 5 / steps)


@pytest.mark.parametrize("option", [o for o in OPTIONS if sampler_of(o).path == "diffusion"])
def test_more_steps_than_the_schedule(option: str) -> None:
    """Refused where the sampler stops at whole steps, else as good as any."""
    sampler = sampler_of(option, steps=60)
    schedule = linear_schedule(50, max_beta=0.2)
    if option in ("ddpm", "plms"):
        with pytest.raises(UserError, match=r"sampler\.steps=60 .* has 50"):
            sampler.set_steps(schedule)
        return
    sampler.set_steps(schedule)
    assert len(set(sampler.times)) == 60


OUT_OF_RANGE = {
    "steps": [0, -3, 2.5, True],
    "temperature": [-0.1, math.nan, math.inf],
    "clip": [0.0, -1.0, math.nan],
    "eta": [1.5, -0.1],
    "order": [0, 4],
    "spacing": ["uneven"],
    "posterior": ["none"],
}


@pytest.mark.parametrize(
    ("option", "name"),
    [(o, name) for o in OPTIONS for name in OUT_OF_RANGE if name in settings_of(o)],
)
def test_settings_out_of_range_are_named(option: str, name: str) -> None:
    for value in OUT_OF_RANGE[name]:
        shown = f"{value:g}" if isinstance(value, float) else value
        with pytest.raises(UserError, match=rf"sampler\.{name}={shown}"):
            sampler_of(option, **{name: value})


def _order(make: Callable[[int], Sampler], counts: list[int], end: float) -> float:
    """How fast the error falls: minus the slope of its logarithm over that of the steps."""
    errors = []
    for steps in counts:
        sampler = make(steps)
        # A wide spread, so that the error is in the steps and not at the last level of noise.
        data = gaussian(sampler, least_std=0.3)
        x = noise_like(data.mean)
        found = sampled(sampler, data, x)
        errors.append(float((found - data.solution(x, sampler.times[0], end)).abs().mean()))
    logs = torch.tensor([[math.log(n), math.log(e)] for n, e in zip(counts, errors, strict=True)])
    centred = logs - logs.mean(dim=0)
    return -float((centred[:, 0] @ centred[:, 1]) / (centred[:, 0] @ centred[:, 0]))


WHOLE = {"lower_order_final": False, "denoise_to_zero": False}
"""All steps of full order, which is what the order is a statement about."""

ORDERS = {
    "ddim": (Ddim, [25, 50, 100, 200], -1.0, 0.9),
    "dpm_solver_pp": (lambda n: DpmSolverPp(n, **WHOLE), [32, 48, 64, 100], 0.0, 1.9),
    # The corrector adds one to the predictor's order.
    "unipc": (lambda n: UniPc(n, **WHOLE), [32, 48, 64, 100], 0.0, 2.7),
    "unipc_3": (lambda n: UniPc(n, order=3, **WHOLE), [48, 64, 80, 100], 0.0, 3.0),
    "euler": (Euler, [25, 50, 100, 200], 1.0, 0.9),
    "heun": (Heun, [10, 20, 40, 80], 1.0, 1.9),
}
"""How to make it, numbers of steps at which its error follows the order, where it ends, the order
that is measured at least."""


@pytest.mark.parametrize("name", ORDERS)
def test_convergence_order(name: str) -> None:
    make, counts, end, least = ORDERS[name]
    assert _order(make, counts, end) > least


def test_fresh_noise_of_ddim() -> None:
    """eta=1 is DDPM at the same times; in between, results stay the same in distribution."""
    schedule = linear_schedule(100, max_beta=0.2)
    eager, ancestral = Ddim(99, eta=1.0, spacing="time"), Ddpm(100, clip=None)
    eager.set_steps(schedule)
    ancestral.set_steps(schedule)
    assert eager.needs_noise
    assert eager.times == pytest.approx(ancestral.times[:-1])
    x, noise = noise_like(torch.empty(1, 3, 4)), noise_like(torch.empty(1, 3, 4), 2)
    prediction = noise_like(x, 3)
    for index in (0, 50, 97):
        ours = eager.step(index, x, prediction, noise)
        torch.testing.assert_close(ours, ancestral.step(index, x, prediction, noise))
    many = Gaussian(torch.tensor(0.1), torch.tensor(0.2), linear_schedule())
    found = sampled(Ddim(300, eta=0.5), many, noise_like(torch.empty(1, 100, 200)))
    assert float(found.mean()) == pytest.approx(0.1, abs=0.01)
    assert float(found.std()) == pytest.approx(0.2, rel=0.05)


def test_clipping_limits_what_is_predicted() -> None:
    """With a cosine schedule a small error of the first prediction is magnified 20 000 times."""
    x = noise_like(torch.empty(1, 6, 20))
    for make in (Ddim, DpmSolverPp, UniPc, Ddpm):
        for clip in (1.0, None):
            sampler = make(10, clip=clip)
            sampler.set_steps(cosine_schedule())
            rng = torch.Generator().manual_seed(0)
            found = sample(sampler, lambda x, t: x + 0.01, x, rng=rng)
            assert (float(found.abs().max()) <= 1.0) == (clip is not None)


@pytest.mark.parametrize("make", [DpmSolverPp, UniPc])
def test_the_noise_that_is_left_is_taken_away(make: Callable[..., Sampler]) -> None:
    """Predictions that grow in a straight line over u = sigma / signal: beside x / signal, the rest
    of the way from u to 0 is u² / 2."""
    schedule = linear_schedule()
    results = []
    for denoise_to_zero in (False, True):
        sampler = make(5, denoise_to_zero=denoise_to_zero)
        sampler.set_steps(schedule, 20.0)
        x = torch.ones(1, 1, 1)
        for index, t in enumerate(sampler.times):
            u = schedule.sigma(t) / schedule.signal(t)
            x = sampler.step(index, x, torch.full_like(x, u))
        results.append(float(x))
    signal, sigma = schedule.signal(0), schedule.sigma(0)
    expected = results[0] / signal - (sigma / signal) ** 2 / 2
    assert results[1] == pytest.approx(expected, abs=2e-6 * abs(expected))


@pytest.mark.parametrize("spacing", ["time", "log_snr"])
def test_spacing(spacing: Literal["time", "log_snr"]) -> None:
    """Equal steps in what the name says, from the start to the lowest noise."""
    schedule = linear_schedule()
    for start in (999.0, 99.0, 3.0):
        times = even_times(schedule, 7, start, spacing)
        assert (times[0], times[-1], len(times)) == (start, 0.0, 8)
        places = times if spacing == "time" else [schedule.log_snr_half(t) for t in times]
        gaps = [b - a for a, b in pairwise(places)]
        assert gaps == pytest.approx([gaps[0]] * 7, rel=1e-6)


def test_whole_times() -> None:
    schedule = linear_schedule(1000)
    assert whole_times(schedule, 4, 999.0, "leading", "plms") == [750, 500, 250, 0]
    assert whole_times(schedule, 4, 999.0, "trailing", "plms") == [999, 749, 499, 249]
    assert whole_times(schedule, 3, 99.0, "leading", "plms") == [66, 33, 0]
    assert whole_times(schedule, 1000, 4.0, "trailing", "plms") == [4, 3, 2, 1, 0]
