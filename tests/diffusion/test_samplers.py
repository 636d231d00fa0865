"""Contract of every sampler: exact where the truth is known, and independent of what should not
matter."""

import math

import pytest
import torch
from torch import Tensor

from diffusion.sampler_options import (
    OPTIONS,
    Gaussian,
    end_of,
    gaussian,
    noise_like,
    sampled,
    sampler_of,
    schedule_of,
)
from svc.diffusion.samplers.base import Sampler
from svc.diffusion.samplers.ddpm import Ddpm
from svc.diffusion.sampling import initial_noise, sample
from svc.diffusion.schedule import FlowPath, linear_schedule
from svc.errors import UserError

FEW = 20
"""Steps in tests where their number does not matter."""


def _shallow(sampler: Sampler) -> float:
    return 0.4 if sampler.path == "flow" else 99.0


def _std_of_ddpm(betas: list[float], std: float) -> float:
    """The deviation that all steps of DDPM give data N(0, std²): its posteriors are a little too
    narrow for data with a spread of their own (Ho, Jain & Abbeel 2020, section 3.2)."""
    variance, remaining = 1.0, [1.0]
    for beta in betas:
        remaining.append(remaining[-1] * (1 - beta))
    for t in range(len(betas), 0, -1):
        now, before, beta = remaining[t], remaining[t - 1], betas[t - 1]
        data_per_x = math.sqrt(now) * std**2 / (now * std**2 + 1 - now)
        of_data = math.sqrt(before) * beta / (1 - now)
        of_x = math.sqrt(1 - beta) * (1 - before) / (1 - now)
        variance *= (of_data * data_per_x + of_x) ** 2
        variance += beta * (1 - before) / (1 - now)
    return math.sqrt(variance)


@pytest.mark.parametrize("option", OPTIONS)
class TestEverySampler:
    @pytest.mark.parametrize("steps", [1, 2, 3, 7, FEW])
    def test_a_known_point_is_found(self, option: str, steps: int) -> None:
        """Data without spread: the predicted noise is the same at all times, and every method
        exact."""
        sampler = sampler_of(option, steps=steps)
        data = gaussian(sampler)
        point = Gaussian(data.mean, torch.zeros(()), data.schedule)
        found = sampled(sampler, point, noise_like(data.mean))
        torch.testing.assert_close(found, data.mean, atol=1e-3, rtol=0)

    def test_a_gaussian_is_found(self, option: str) -> None:
        """As a map of the noise where the sampler is deterministic, else as a distribution."""
        sampler = sampler_of(option, steps=1000)
        data = gaussian(sampler)
        if sampler.needs_noise:
            mean, std = float(data.mean[0, 0, 0]), float(data.std[0, 0, 0])
            many = Gaussian(torch.tensor(mean), torch.tensor(std), data.schedule)
            found = sampled(sampler, many, noise_like(torch.empty(1, 100, 200)))
            count = found.numel()
            assert abs(float(found.mean()) - mean) < 5 * std / math.sqrt(count)
            expected = _std_of_ddpm(linear_schedule().betas.tolist(), std)
            assert abs(float(found.std()) / expected - 1) < 5 / math.sqrt(2 * count)
            assert expected == pytest.approx(std, rel=0.05)
        else:
            x = noise_like(data.mean)
            found = sampled(sampler, data, x)
            expected = data.solution(x, sampler.times[0], end_of(sampler))
            torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)

    def test_times_are_those_of_the_evaluations(self, option: str) -> None:
        sampler = sampler_of(option, steps=FEW)
        data = gaussian(sampler)
        seen: list[float] = []

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            assert t.shape == (2,)
            assert t.dtype == x.dtype == torch.float32
            seen.append(float(t[0]))
            return data.denoise(x, t)

        done: list[tuple[int, int]] = []
        sampler.set_steps(data.schedule)
        x = noise_like(torch.empty(2, 6, 20))
        sample(sampler, denoise, x, progress=lambda *count: done.append(count))
        assert seen == pytest.approx(sampler.times, abs=1e-3)
        assert done == [(i + 1, len(seen)) for i in range(len(seen))]
        later = seen if sampler.path == "flow" else seen[::-1]
        assert later == sorted(later)
        assert FEW <= len(seen) <= 2 * FEW

    def test_items_do_not_depend_on_their_neighbours(self, option: str) -> None:
        sampler = sampler_of(option, steps=FEW)
        data = gaussian(sampler, batch=3)
        x = noise_like(data.mean)
        sampler.set_steps(data.schedule)
        steps = [noise_like(x, seed) for seed in range(len(sampler.times))]
        together = sample(sampler, data.denoise, x, step_noise=steps)
        alone = Gaussian(data.mean[1:2], data.std[1:2], data.schedule)
        single = sample(sampler, alone.denoise, x[1:2], step_noise=[n[1:2] for n in steps])
        assert torch.equal(single, together[1:2])

    def test_seeds(self, option: str) -> None:
        """One object, used again: the same for the same seed, another for another."""
        sampler = sampler_of(option, steps=FEW)
        data = gaussian(sampler)

        def of_seed(seed: int) -> Tensor:
            rng = torch.Generator().manual_seed(seed)
            x = initial_noise(data.mean.shape, rng, sampler.temperature)
            sampler.set_steps(data.schedule)
            return sample(sampler, data.denoise, x, rng=rng)

        first, other, again = of_seed(1), of_seed(2), of_seed(1)
        assert torch.equal(first, again)
        assert float((first - other).abs().mean()) > 0.05

    def test_temperature(self, option: str) -> None:
        """Without noise all seeds agree; with half of it results spread half as wide."""
        cold = sampler_of(option, steps=FEW, temperature=0.0)
        assert not cold.needs_noise
        data = gaussian(cold)
        x = initial_noise(data.mean.shape, torch.Generator().manual_seed(0), cold.temperature)
        assert not x.any()
        assert torch.equal(sampled(cold, data, x, seed=1), sampled(cold, data, x, seed=2))

        def spread(temperature: float) -> float:
            sampler = sampler_of(option, steps=FEW, temperature=temperature)
            results = []
            for seed in (1, 2):
                rng = torch.Generator().manual_seed(seed)
                x = initial_noise(data.mean.shape, rng, temperature)
                results.append(sampled(sampler, data, x, seed))
            return float((results[0] - results[1]).std())

        assert spread(0.5) == pytest.approx(spread(1.0) / 2, rel=0.02)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_comes_out_in_full(self, option: str, dtype: torch.dtype) -> None:
        """A network in half precision costs no more than the rounding of its own predictions."""
        sampler = sampler_of(option, steps=FEW)
        data = gaussian(sampler)
        sampler.set_steps(data.schedule)
        x = noise_like(data.mean).to(dtype)
        steps = [noise_like(x, seed).to(dtype) for seed in range(len(sampler.times))]

        def rounded(x: Tensor, t: Tensor) -> Tensor:
            assert x.dtype == torch.float32
            return data.denoise(x, t).to(dtype)

        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = sample(sampler, rounded, x, step_noise=steps)
        widened = sample(
            sampler, lambda x, t: rounded(x, t).float(), x.float(),
            step_noise=[n.float() for n in steps],
        )  # fmt: skip
        assert torch.equal(found, widened)
        full = sample(sampler, data.denoise, x.float(), step_noise=[n.float() for n in steps])
        assert found.dtype == full.dtype == torch.float32
        # The first data prediction divides the rounding of the noise by a signal of 1/160.
        tolerance = 0.02 if dtype == torch.float16 else 0.15
        assert float((found - full).abs().max()) < tolerance

    def test_predictions_that_cannot_be_half_stay_finite(self, option: str) -> None:
        """Levels and weights beyond fp16's range never become fp16."""
        sampler = sampler_of(option, steps=FEW, clip=None)
        x = torch.full((1, 4, 5), 60_000.0, dtype=torch.float16)
        sampler.set_steps(schedule_of(sampler))
        found = sample(
            sampler, lambda x, t: torch.full_like(x, 30_000.0, dtype=torch.float16), x,
            rng=torch.Generator().manual_seed(0),
        )  # fmt: skip
        assert found.isfinite().all()
        assert float(found.abs().max()) > 65_504

    def test_a_shallow_start_without_steps_changes_nothing(self, option: str) -> None:
        sampler = sampler_of(option, steps=FEW)
        data = gaussian(sampler)
        mel = noise_like(data.mean)
        found = sampled(sampler, data, mel, start=end_of(sampler))
        assert sampler.times == []
        assert torch.equal(found, mel)

    def test_a_shallow_start_is_the_rest_of_the_way(self, option: str) -> None:
        """Data noised to the start come back as themselves where they have no spread, and else
        where the equation takes them."""
        sampler = sampler_of(option, steps=60, temperature=0.0)
        data = gaussian(sampler)
        start = _shallow(sampler)
        drawn = data.mean + data.std * noise_like(data.mean, 3)
        noise = noise_like(data.mean)
        x = data.schedule.noised(drawn, torch.tensor([start]), noise)
        point = Gaussian(drawn, torch.zeros(()), data.schedule)
        torch.testing.assert_close(
            sampled(sampler, point, x, start=start), drawn, atol=1e-4, rtol=0
        )
        assert sampler.times[0] == start
        assert len(sampler.times) >= 60
        if not isinstance(sampler, Ddpm):
            expected = data.solution(x, start, end_of(sampler))
            torch.testing.assert_close(
                sampled(sampler, data, x, start=start), expected, atol=0.02, rtol=0
            )

    def test_the_shallowest_start(self, option: str) -> None:
        """One step of the schedule: a single look at the network is enough."""
        sampler = sampler_of(option)
        data = gaussian(sampler)
        start = 1 - 1e-3 if sampler.path == "flow" else 0.0
        x = noise_like(data.mean)
        point = Gaussian(data.mean, torch.zeros(()), data.schedule)
        noised = data.schedule.noised(data.mean, torch.tensor([start]), x)
        found = sampled(sampler, point, noised, start=start)
        torch.testing.assert_close(found, data.mean, atol=1e-4, rtol=0)
        if sampler.path == "diffusion":
            assert sampler.times == [0.0]

    def test_steps_never_wait_for_the_device(self, option: str) -> None:
        """Tensors without values: whatever looks at one, as a copy to the host does, fails."""
        sampler = sampler_of(option, steps=6)
        sampler.set_steps(schedule_of(sampler))
        x = torch.empty(2, 3, 4, device="meta")
        for index in range(len(sampler.times)):
            x = sampler.step(index, x, torch.empty_like(x), torch.empty_like(x))
        assert x.shape == (2, 3, 4)

    def test_what_it_is_given_is_left_alone(self, option: str) -> None:
        sampler = sampler_of(option, steps=5)
        data = gaussian(sampler)
        x = noise_like(data.mean)
        before = x.clone()
        predictions: list[tuple[Tensor, Tensor]] = []

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            predicted = data.denoise(x, t)
            predictions.append((predicted, predicted.clone()))
            return predicted

        sampler.set_steps(data.schedule)
        sample(sampler, denoise, x, rng=torch.Generator().manual_seed(0))
        assert torch.equal(x, before)
        assert all(torch.equal(predicted, copy) for predicted, copy in predictions)

    def test_a_model_of_the_other_kind_is_refused(self, option: str) -> None:
        sampler = sampler_of(option)
        other = linear_schedule() if sampler.path == "flow" else FlowPath()
        with pytest.raises(UserError, match=r"choose sampler="):
            sampler.set_steps(other)

    @pytest.mark.parametrize("start", [-2.0, -0.5, 1000.0, math.nan])
    def test_a_start_outside_the_schedule_is_refused(self, option: str, start: float) -> None:
        sampler = sampler_of(option)
        with pytest.raises(UserError, match=r"start"):
            sampler.set_steps(schedule_of(sampler), start)

    def test_wrong_tensors_are_refused(self, option: str) -> None:
        sampler = sampler_of(option, steps=2)
        data = gaussian(sampler)
        x = noise_like(data.mean)
        with pytest.raises(ValueError, match="before set_steps"):
            sample(sampler, data.denoise, x)
        sampler.set_steps(data.schedule)
        with pytest.raises(ValueError, match=r"prediction \[1, 6, 19\].*\[1, 6, 20\]"):
            sample(sampler, lambda x, t: data.denoise(x, t)[..., :-1], x)
        with pytest.raises(ValueError, match="not finite"):
            sample(sampler, data.denoise, torch.full_like(x, math.nan))
        with pytest.raises(UserError, match="not finite"):
            sample(sampler, lambda x, t: x * math.nan, x)
        if sampler.needs_noise:
            with pytest.raises(ValueError, match="needs noise"):
                sampler.step(0, x, x, None)
            with pytest.raises(ValueError, match="1 of 2"):
                sample(sampler, data.denoise, x, step_noise=[x])
