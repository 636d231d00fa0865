import pytest
import torch

from svc.training.schedules import exponential_decay


def test_decay_is_smooth_and_reaches_gamma_after_the_interval() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = exponential_decay(optimizer, gamma=0.25, every_steps=2)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([2, 1, 0.5, 0.25, 0.125])


@pytest.mark.parametrize("options", [{"gamma": 0.0}, {"gamma": 1.1}, {"every_steps": 0}])
def test_out_of_range(options: dict[str, float]) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with pytest.raises(ValueError, match="exponential_decay needs"):
        exponential_decay(optimizer, **options)
