"""Noise levels at any time, their inverse, and the ways to state a prediction."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from svc.diffusion.schedule import (
    FlowPath,
    NoiseSchedule,
    cosine_schedule,
    linear_schedule,
)
from svc.errors import UserError

SCHEDULES = [
    pytest.param(linear_schedule(), id="linear"),
    pytest.param(linear_schedule(1000, max_beta=0.01), id="published"),
    pytest.param(cosine_schedule(), id="cosine"),
    pytest.param(linear_schedule(1, 0.02), id="one step"),
]
TIMES = (-1.0, -0.3, 0.0, 0.5, 12.25, 499.0, 998.7, 999.0)


def _noise(seed: int, shape: tuple[int, ...] = (3, 4, 5)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("schedule", SCHEDULES)
class TestEverySchedule:
    def test_levels_are_those_of_the_betas(self, schedule: NoiseSchedule) -> None:
        remaining = 1.0
        for t, beta in enumerate(schedule.betas.tolist()):
            remaining *= 1 - beta
            assert schedule.signal(t) == pytest.approx(math.sqrt(remaining), rel=1e-9)
            assert schedule.sigma(t) == pytest.approx(math.sqrt(1 - remaining), rel=1e-9)

    def test_clean_data_have_no_noise(self, schedule: NoiseSchedule) -> None:
        assert (schedule.signal(-1), schedule.sigma(-1)) == (1.0, 0.0)
        assert schedule.log_snr_half(-1) == math.inf
        data = _noise(0)
        noised = schedule.noised(data, torch.full((3,), -1.0), _noise(1))
        assert torch.equal(noised, data)

    def test_log_signal_runs_straight_between_steps(self, schedule: NoiseSchedule) -> None:
        for t in range(-1, schedule.steps - 1, 97):
            ends = schedule.log_signal(t), schedule.log_signal(t + 1)
            assert schedule.log_signal(t + 0.25) == pytest.approx(ends[0] + (ends[1] - ends[0]) / 4)

    def test_the_time_of_a_signal_to_noise_ratio(self, schedule: NoiseSchedule) -> None:
        for t in np.linspace(-0.99, schedule.steps - 1, 173):
            back = schedule.time_at(schedule.log_snr_half(float(t)))
            assert back == pytest.approx(float(t), abs=1e-6)
        assert schedule.time_at(math.inf) == -1

    def test_tensors_of_times_give_the_same_levels(self, schedule: NoiseSchedule) -> None:
        times = [t for t in TIMES if t <= schedule.steps - 1]
        for dtype in (torch.float32, torch.float64):
            signal, sigma = schedule.levels(torch.tensor(times, dtype=dtype))
            assert signal.dtype == sigma.dtype == torch.float32
            assert signal.tolist() == pytest.approx([schedule.signal(t) for t in times], abs=1e-6)
            assert sigma.tolist() == pytest.approx([schedule.sigma(t) for t in times], abs=1e-6)

    def test_predictions_say_the_same(self, schedule: NoiseSchedule) -> None:
        t = torch.tensor([0.0, 0.4, 1.0]) * min(schedule.steps - 1, 600)
        data, noise = _noise(0), _noise(1)
        x, v = schedule.noised(data, t, noise), schedule.v_target(data, t, noise)
        torch.testing.assert_close(schedule.noise_from_v(x, t, v), noise, atol=1e-5, rtol=0)
        torch.testing.assert_close(schedule.data_from_v(x, t, v), data, atol=1e-5, rtol=0)
        torch.testing.assert_close(schedule.data_from_noise(x, t, noise), data, atol=1e-4, rtol=0)

    def test_half_precision_comes_out_in_full(self, schedule: NoiseSchedule) -> None:
        data, noise = _noise(0).half(), _noise(1).half()
        t = torch.zeros(3, dtype=torch.int64)
        noised = schedule.noised(data, t, noise)
        assert noised.dtype == torch.float32
        assert torch.equal(noised, schedule.noised(data.float(), t, noise.float()))

    def test_one_time_per_item(self, schedule: NoiseSchedule) -> None:
        with pytest.raises(ValueError, match=r"t \[2\].*\[3, 4, 5\]"):
            schedule.noised(_noise(0), torch.zeros(2), _noise(1))


def test_noise_grows_over_the_schedule() -> None:
    for schedule in (linear_schedule(), cosine_schedule()):
        lambdas = [schedule.log_snr_half(t) for t in range(1000)]
        assert all(a > b for a, b in pairwise(lambdas))
        assert schedule.signal(999) < 0.01


def test_flow() -> None:
    path = FlowPath()
    data, noise = _noise(0).half(), _noise(1).half()
    for time in (0.0, 0.3, 1.0):
        t = torch.full((3,), time)
        x = path.noised(data, t, noise)
        torch.testing.assert_close(x, (1 - time) * noise.float() + time * data.float())
        torch.testing.assert_close(
            x + (1 - time) * path.velocity(data, noise), data.float(), atol=1e-5, rtol=0
        )
    assert torch.equal(path.noised(data, torch.ones(3), noise), data.float())
    with pytest.raises(ValueError, match="one time per item"):
        path.noised(data, torch.zeros(2), noise)


@pytest.mark.parametrize(
    "make",
    [
        lambda: linear_schedule(0),
        lambda: linear_schedule(max_beta=1.0),
        lambda: linear_schedule(max_beta=0.01, min_beta=0.02),
        lambda: linear_schedule(min_beta=0.0),
        lambda: cosine_schedule(0),
        lambda: cosine_schedule(offset=0.0),
        lambda: cosine_schedule(max_beta=1.0),
    ],
)
def test_schedules_out_of_range_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(UserError, match="schedule needs"):
        make()


def test_betas_must_be_variances() -> None:
    for betas in ([], [0.5, 1.0], [0.0], [[0.1]], [float("nan")]):
        with pytest.raises(ValueError, match="betas"):
            NoiseSchedule(np.array(betas))
