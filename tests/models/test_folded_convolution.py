"""Folding time into channels must change nothing but the speed."""

import pytest
import torch
import torch.nn.functional as F

from svc.models.folded_convolution import folded_conv1d


@pytest.mark.parametrize(
    ("channels_in", "channels_out", "kernel", "stride", "groups", "fold"),
    [(8, 8, 41, 2, 4, 4), (8, 16, 41, 4, 4, 4), (8, 8, 41, 1, 2, 2), (1, 4, 15, 1, 1, 8)],
)
@pytest.mark.parametrize("samples", [50, 101])
def test_result_and_gradients_are_those_of_the_convolution(
    channels_in: int,
    channels_out: int,
    kernel: int,
    stride: int,
    groups: int,
    fold: int,
    samples: int,
) -> None:
    rng = torch.Generator().manual_seed(samples)
    x, weight, bias = (
        torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_()
        for shape in (
            (2, channels_in, samples),
            (channels_out, channels_in // groups, kernel),
            (channels_out,),
        )
    )
    folded = folded_conv1d(x, weight, bias, stride=stride, groups=groups, fold=fold)
    plain = F.conv1d(x, weight, bias, stride, kernel // 2, groups=groups)
    torch.testing.assert_close(folded, plain)
    gradients = (torch.autograd.grad(y.square().sum(), (x, weight, bias)) for y in (folded, plain))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
