"""Copies of weights that last as long as nothing changes."""

import torch
from torch import nn

from svc.models.inference_weights import InferenceWeights


def test_copies_are_kept_inside_the_context_alone() -> None:
    conv, weights = nn.Conv1d(4, 6, 3), InferenceWeights()
    with weights.kept():
        first, bias = weights.of(conv, torch.float32)
        assert torch.equal(first[:, :, 0], conv.weight)
        assert first.is_contiguous(memory_format=torch.channels_last)
        assert bias is not None
        assert torch.equal(bias, conv.bias)  # type: ignore[arg-type]
        with weights.kept():
            assert weights.of(conv, torch.float32)[0] is first
        assert weights.of(conv, torch.float32)[0] is first
        rounded, bias = weights.of(conv, torch.bfloat16)
        assert bias is not None
        assert rounded.dtype == bias.dtype == torch.bfloat16
    assert weights.of(conv, torch.float32)[0] is not first


def test_outside_weights_may_change() -> None:
    """A fused optimiser changes weights without counting up their version."""
    conv, weights = nn.Conv1d(4, 6, 3), InferenceWeights()
    with weights.kept():
        before = weights.of(conv, torch.float32)[0].clone()
    optimizer = torch.optim.AdamW(conv.parameters(), lr=0.1, fused=True)
    conv(torch.randn(1, 4, 9)).sum().backward()
    optimizer.step()
    for context in (weights.kept(), torch.no_grad()):
        with context:
            after, _ = weights.of(conv, torch.float32)
            assert torch.equal(after[:, :, 0], conv.weight)
            assert not torch.equal(after, before)


def test_a_convolution_without_bias() -> None:
    conv, weights = nn.Conv1d(4, 6, 1, bias=False), InferenceWeights()
    with weights.kept():
        assert weights.of(conv, torch.float32)[1] is None
