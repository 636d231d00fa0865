import pytest
import torch
from torch import nn

from svc.training.ema import ExponentialMovingAverage


def constant(value: float) -> nn.Module:
    layer = nn.BatchNorm1d(3)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, value)
    return layer


def test_average_follows_the_formula_with_warm_up() -> None:
    network = constant(0.0)
    average = ExponentialMovingAverage(network, decay=0.5)
    expected = 0.0
    for update, value in enumerate([1.0, -2.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 0.5]):
        nn.init.constant_(network.weight, value)
        average.update(network)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
        assert average.network.weight.tolist() == pytest.approx([expected] * 3, rel=1e-6)
    assert network.weight.tolist() == [0.5] * 3


def test_buffers_are_copied_and_nothing_is_trained() -> None:
    network = constant(0.0)
    average = ExponentialMovingAverage(network)
    network.running_mean.fill_(7.0)
    average.update(network)
    assert average.network.running_mean.tolist() == [7.0] * 3
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_state_continues_the_warm_up() -> None:
    network = constant(1.0)
    average = ExponentialMovingAverage(network, 0.9)
    for _ in range(5):
        average.update(network)
    restored = ExponentialMovingAverage(constant(0.0), 0.9)
    restored.load_state_dict(average.state_dict())
    nn.init.constant_(network.weight, 3.0)
    for each in (average, restored):
        each.update(network)
    assert torch.equal(average.network.weight, restored.network.weight)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        ExponentialMovingAverage(constant(0.0), decay)


def test_what_is_frozen_is_shared_and_stays() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    average = ExponentialMovingAverage(network, 0.5)
    assert average.network[1].weight is network[1].weight
    assert average.network[0].weight is not network[0].weight
    frozen = network[1].weight.clone()
    nn.init.constant_(network[0].weight, 3.0)
    average.update(network)
    assert torch.equal(average.network[1].weight, frozen)
    assert not torch.equal(average.network[0].weight, network[0].weight)
