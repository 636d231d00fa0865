"""Shapes, reach and conditioning of the WaveNet."""

import pytest
import torch

from svc.models.wavenet import WaveNet


def tiny(layers: int = 5, dilation_cycle: int = 3) -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(4, 6, 8, layers, dilation_cycle, out_channels=3).double()


def test_dilations_cycle_and_reach_is_exact() -> None:
    net = tiny()
    assert [block.dilated.dilation[0] for block in net.blocks] == [1, 2, 4, 1, 2]
    reach = net.receptive_frames
    assert reach == 10
    x = torch.randn(1, 4, 2 * reach + 5, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(1, 6, 2 * reach + 5, dtype=torch.float64)
    net(x, condition)[..., reach + 2].sum().backward()
    touched = x.grad.abs().sum(1)[0].nonzero().flatten()  # type: ignore[union-attr]
    assert (touched.min(), touched.max()) == (2, 2 * reach + 2)


def test_every_layer_sees_its_own_part_of_the_condition() -> None:
    net = tiny(layers=2, dilation_cycle=1)
    x, condition = (torch.randn(2, c, 7, dtype=torch.float64) for c in (4, 6))
    before = net(x, condition)
    assert before.shape == (2, 3, 7)
    with torch.no_grad():
        net.condition.weight[-16:] = 0  # the last layer's gate and signal
        net.condition.bias[-16:] = 0  # type: ignore[index]
    x_next, skip_first = net.blocks[0](torch.relu(net.input(x)), net.condition(condition)[:, :16])
    _, skip_last = net.blocks[1](x_next, torch.zeros(2, 16, 7, dtype=torch.float64))
    expected = net.output(torch.relu(net.skip((skip_first + skip_last) / 2**0.5)))
    torch.testing.assert_close(net(x, condition), expected)
    assert not torch.allclose(before, expected)


def test_refuses_wrong_shapes_and_settings() -> None:
    net = tiny()
    x, condition = torch.zeros(1, 4, 9).double(), torch.zeros(1, 6, 8).double()
    with pytest.raises(ValueError, match=r"\[1, 6, 8\] must be \[B, 6, N\]"):
        net(x, condition)
    with pytest.raises(ValueError, match="kernel=4 must be odd"):
        WaveNet(4, 6, 8, 2, 1, 4, out_channels=3)
