"""A convolution over time as one over shorter time and more channels."""

import torch
import torch.nn.functional as F
from torch import Tensor


def folded_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: int,
    groups: int,
    fold: int,
) -> Tensor:
    """`conv1d(x, weight, bias, stride, padding=k // 2, groups=groups)` for odd kernels k.

    oneDNN has no fast kernels for a few channels per group and long filters. So `fold` steps of
    time become channels, and the results of as many steps come out as channels:

        x      [B, C, T]              -> [B, C * fold, T / fold]
        weight [O, C / groups, k]     -> [O * fold / stride, C / groups * fold, about k / fold]
        y      [B, O * fold / stride, T / fold] -> [B, O, T / stride]

    The sums are the same; only products with zeros are added where the filter does not fill its
    longer frame.

    Args:
        x: [B, C, T].
        weight: [O, C / groups, k], k odd.
        bias: [O].
        stride: of the convolution.
        groups: of the convolution.
        fold: steps to fold, a multiple of the stride.

    Returns:
        [B, O, ceil(T / stride)].
    """
    phases = fold // stride
    half = weight.shape[-1] // 2
    # Blocks of `fold` steps before and after a block that its results need.
    context = max(-(-half // fold), (half + stride * (phases - 1)) // fold)
    kernel = _fold_weight(weight, stride=stride, fold=fold, context=context)
    samples = x.shape[-1]
    if samples % fold:  # padding by nothing would copy
        x = F.pad(x, (0, -samples % fold))
    blocks = _steps_to_channels(x, fold)
    bias = bias.repeat_interleave(phases)
    y = F.conv1d(blocks, kernel, bias, padding=context, groups=groups)
    batch, channels, steps = y.shape
    y = y.view(batch, channels // phases, phases, steps).transpose(2, 3)
    return y.reshape(batch, channels // phases, steps * phases)[..., : -(-samples // stride)]


def _fold_weight(weight: Tensor, *, stride: int, fold: int, context: int) -> Tensor:
    """[O, C, k] -> [O * fold / stride, C * fold, 2 * context + 1].

    A product with zeros and ones, because moving single numbers around takes ten times as long.
    """
    channels_out, channels_in, taps = weight.shape
    phases, blocks = fold // stride, 2 * context + 1
    first = context * fold - taps // 2
    phase, tap = torch.arange(phases)[:, None], torch.arange(taps)[None]
    step = first + stride * phase + tap
    placement = weight.new_zeros(taps, phases, fold, blocks)
    placement[tap, phase, step % fold, step // fold] = 1
    placed = (weight.reshape(-1, taps) @ placement.view(taps, -1)).view(
        channels_out, channels_in, phases, fold * blocks
    )
    return placed.transpose(1, 2).reshape(channels_out * phases, channels_in * fold, blocks)


def _steps_to_channels(x: Tensor, fold: int) -> Tensor:
    """[B, C, T] -> [B, C * fold, T / fold], a step's place within its block varying fastest."""
    batch, channels, steps = x.shape
    folded = x.view(batch, channels, steps // fold, fold).transpose(2, 3)
    return folded.reshape(batch, channels * fold, steps // fold)
