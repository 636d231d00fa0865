"""Mixtures on the sphere: the arc between two, the average of several, what has no direction."""

import math

import pytest
import torch
from torch import Tensor

from svc.inference.spherical_mean import spherical_mean_weights


def mixed(shares: list[float], table: Tensor) -> Tensor:
    weights = spherical_mean_weights(torch.tensor([shares]), table)
    return (weights @ table.double())[0]


def angle(a: Tensor, b: Tensor) -> float:
    return math.degrees(math.acos(float(a.double() @ b.double() / (a.norm() * b.norm()))))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_two_orthogonal_voices_on_their_arc(share: float) -> None:
    table = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    voice = mixed([1 - share, share], table)
    turn = math.pi / 2 * share
    length = 2 + 2 * share
    wanted = torch.tensor([length * math.cos(turn), 0.0, length * math.sin(turn)]).double()
    torch.testing.assert_close(voice, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("degrees", [0.01, 10.0, 90.0, 170.0])
def test_two_voices_at_any_angle_as_shoemake_writes_it(degrees: float) -> None:
    omega = math.radians(degrees)
    first = torch.tensor([1.0, 0.0]).double()
    second = torch.tensor([math.cos(omega), math.sin(omega)]).double()
    for t in (0.0, 0.2, 0.5, 1.0):
        wanted = (math.sin((1 - t) * omega) * first + math.sin(t * omega) * second) / math.sin(
            omega
        )
        voice = mixed([1 - t, t], torch.stack([first, second]))
        torch.testing.assert_close(voice, wanted, rtol=0, atol=1e-6)


def test_a_voice_alone_is_itself_to_the_bit() -> None:
    table = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    shares = torch.eye(5)
    assert torch.equal(spherical_mean_weights(shares, table).float(), shares)


def test_the_average_of_many_does_not_depend_on_their_order_and_lies_where_it_pulls_nowhere() -> (
    None
):
    rng = torch.Generator().manual_seed(1)
    table = torch.randn(6, 12, generator=rng).double()
    shares = torch.rand(6, generator=rng).double()
    shares /= shares.sum()
    order = torch.randperm(6, generator=rng)
    weights = spherical_mean_weights(shares[None], table)[0]
    torch.testing.assert_close(
        spherical_mean_weights(shares[None, order], table[order])[0], weights[order]
    )
    voice = weights @ table
    assert float(voice.norm()) == pytest.approx(float(shares @ table.norm(dim=1)))
    # At the minimum of the sum of squared angles, the logarithms of the voices cancel.
    unit, q = table / table.norm(dim=1, keepdim=True), voice / voice.norm()
    tangents = unit - (unit @ q)[:, None] * q
    logarithms = tangents / tangents.norm(dim=1, keepdim=True) * (unit @ q).acos()[:, None]
    assert float((shares @ logarithms).norm()) < 1e-6


def test_is_no_weaker_than_its_voices_where_the_linear_mixture_is() -> None:
    table = torch.nn.functional.normalize(
        torch.randn(2, 256, generator=torch.Generator().manual_seed(2)), dim=1
    )
    linear = torch.tensor([0.5, 0.5]) @ table
    assert float(linear.norm()) < 0.75
    voice = mixed([0.5, 0.5], table)
    assert float(voice.norm()) == pytest.approx(1.0)
    assert angle(voice, table[0]) == pytest.approx(angle(voice, table[1]), abs=1e-3)


@pytest.mark.parametrize(
    "table",
    [
        [[1.0, 2.0], [0.0, 0.0]],
        [[1.0, 2.0], [-2.0, -4.0]],
        [[0.0, 0.0], [0.0, 0.0]],
    ],
    ids=["zero", "opposite", "both zero"],
)
def test_what_has_no_direction_is_mixed_linearly(table: list[list[float]]) -> None:
    shares = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    assert torch.equal(spherical_mean_weights(shares, torch.tensor(table)), shares.double())


def test_three_around_a_circle_have_no_average() -> None:
    turns = torch.arange(3) * 2 * math.pi / 3
    table = torch.stack([turns.cos(), turns.sin()], 1)
    shares = torch.full((1, 3), 1 / 3)
    assert torch.equal(spherical_mean_weights(shares, table), shares.double())


def test_parallel_voices_and_those_without_a_share() -> None:
    table = torch.tensor([[1.0, 1.0], [3.0, 3.0], [0.0, 0.0]])
    torch.testing.assert_close(mixed([0.5, 0.5, 0.0], table), torch.tensor([2.0, 2.0]).double())
    weights = spherical_mean_weights(torch.tensor([[0.5, 0.5, 0.0]]), table)
    assert float(weights[0, 2]) == 0
