from collections.abc import Callable
from typing import Any

import pytest
import torch

from svc.training.schedules import exponential_decay, step_decay, warmup_cosine


def rates(schedule_of: Callable[..., Any], steps: int, **options: Any) -> list[float]:
    """The learning rate of each update, of an optimiser whose own is 2."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = schedule_of(optimizer, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_decay_is_smooth_and_reaches_gamma_after_the_interval() -> None:
    found = rates(exponential_decay, 5, gamma=0.25, every_steps=2)
    assert found == pytest.approx([2, 1, 0.5, 0.25, 0.125])


def test_step_decay_stays_between_its_steps() -> None:
    found = rates(step_decay, 7, gamma=0.5, every_steps=3)
    assert found == pytest.approx([2, 2, 2, 1, 1, 1, 0.5])


def test_warmup_cosine_rises_falls_and_stays() -> None:
    found = rates(
        warmup_cosine, 10, warmup_steps=2, decay_steps=6, start_factor=0.5, final_factor=0.1
    )
    assert found[:3] == pytest.approx([1.0, 1.5, 2.0])
    assert found[4] == pytest.approx(2 * (0.1 + 0.9 / 2))  # half-way down
    assert found[6:] == pytest.approx([0.2] * 4)
    assert sorted(found[2:], reverse=True) == found[2:]


def test_warmup_cosine_may_begin_at_the_full_rate() -> None:
    assert rates(warmup_cosine, 1, warmup_steps=0, decay_steps=5) == [2.0]


@pytest.mark.parametrize("schedule_of", [exponential_decay, step_decay])
@pytest.mark.parametrize("options", [{"gamma": 0.0}, {"gamma": 1.1}, {"every_steps": 0}])
def test_decay_out_of_range(schedule_of: Callable[..., Any], options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{schedule_of.__name__} needs"):
        rates(schedule_of, 1, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"warmup_steps": 5, "decay_steps": 5},
        {"warmup_steps": -1},
        {"final_factor": 1.5},
        {"start_factor": -0.1},
    ],
)
def test_warmup_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="warmup_cosine needs"):
        rates(warmup_cosine, 1, **options)
