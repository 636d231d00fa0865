"""Convolutions over time with three taps from half the products: minimal filtering, F(4, 3) of
Winograd (1980, "Arithmetic Complexity of Computations"), in the form of Lavin and Gray (2016, "Fast
Algorithms for Convolutional Neural Networks", sections 3 and 4.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svc.models.packed_linear import PackedLinear

LEAST_CHANNELS = 256
LEAST_VALUES = 2**16
"""Frames times channels. Below, oneDNN's convolution is as fast: transforms grow with the channels
and products with their square, and six matrices have to be read instead of three. Measured with
twice as many channels out as in."""
LEAST_TILES = 4
"""What is computed beyond the end, up to a tile, is then at most a quarter."""
_WEIGHT_TRANSFORM_24 = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
"""24 G."""


class WinogradConv:
    """`conv1d(x, weight, bias, padding=dilation, dilation=dilation)` without a graph, for float32
    on a CPU.

    Four outputs that lie a dilation apart share six inputs. With three taps g they are 12 products
    of an input and a weight; computed from values of two polynomials at 0, 1, -1, 2, -2 and
    infinity they are 6:

        y = A^T [(G g) * (B^T x)]

              4  0 -5  0  1  0             6  0  0
              0 -4 -4  1  1  0            -4 -4 -4            1  1  1  1  1  0
        B^T = 0  4 -4 -1  1  0   G = 1/24 -4  4 -4     A^T =  0  1 -1  2 -2  0
              0 -2 -1  2  1  0             1  2  4            0  1  1  4  4  0
              0  2 -1 -2  1  0             1 -2  4            0  1 -1  8 -8  1
              0  4  0 -5  0  1             0  0 24

    Over channels, each of the six products is one of matrices, where nearly all of the time goes.
    G g is computed once. The error is that of a convolution in float32: 1.1e-6 of the output's norm
    with 512 channels, where oneDNN's direct convolution has 8e-7.

    Args:
        weight: [O, I, 3] float32.
        bias: [O] float32, or None.
        dilation: at least 1.

    Raises:
        ValueError: the weight has not three taps.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int) -> None:
        if weight.ndim != 3 or weight.shape[-1] != 3:
            raise ValueError(f"weight {list(weight.shape)} must be [O, I, 3]")
        self._channels_out = weight.shape[0]
        self._dilation = dilation
        weight = weight.detach().float()
        transform = weight.new_tensor(_WEIGHT_TRANSFORM_24).div(24)
        transformed = torch.einsum("kt,oit->koi", transform, weight)
        # A bias of the second product, whose column of A^T is all ones, is one of every output.
        self._products = [
            PackedLinear(matrix, bias if index == 1 else None, torch.float32)
            for index, matrix in enumerate(transformed)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """[B, N, I] -> [B, N, O]."""
        batch, frames, channels = x.shape
        dilation = self._dilation
        tiles = -(-frames // (4 * dilation))
        beyond = 4 * dilation * tiles - frames
        steps = F.pad(x, (0, 0, dilation, beyond + dilation))
        steps = steps.view(batch, 4 * tiles + 2, dilation, channels)
        y = x.new_empty(batch, tiles, 4, dilation, self._channels_out)
        self._run(steps, y)
        return y.view(batch, frames + beyond, self._channels_out)[:, :frames]

    def _run(self, steps: Tensor, y: Tensor) -> None:
        """steps [B, 4 tiles + 2, dilation, I] -> y [B, tiles, 4, dilation, O]."""
        last = steps.shape[1] - 5
        x0, x1, x2, x3, x4, x5 = (steps[:, first : first + last : 4] for first in range(6))
        product = self._products

        even, odd = torch.sub(x4, x2, alpha=4), torch.sub(x3, x1, alpha=4)
        plus, minus = product[1](even + odd), product[2](even.sub_(odd))
        sum_1, difference_1 = plus + minus, plus.sub_(minus)

        torch.sub(x4, x2, out=even)
        torch.sub(x3, x1, out=odd)
        plus = product[3](torch.add(even, odd, alpha=2))
        minus = product[4](even.sub_(odd, alpha=2))
        sum_2, difference_2 = plus + minus, plus.sub_(minus)

        torch.add(difference_1, difference_2, alpha=2, out=y[:, :, 1])
        torch.add(sum_1, sum_2, alpha=4, out=y[:, :, 2])
        at_zero = product[0](torch.add(x4, x0, alpha=4).sub_(x2, alpha=5))
        torch.add(sum_1.add_(sum_2), at_zero, out=y[:, :, 0])
        at_infinity = product[5](torch.add(x5, x1, alpha=4).sub_(x3, alpha=5))
        torch.add(difference_1.add_(difference_2, alpha=8), at_infinity, out=y[:, :, 3])


def is_faster(conv: nn.Conv1d, batch: int, frames: int) -> bool:
    """Whether `WinogradConv` is worth it for [B, N, I], its weights being transformed already."""
    channels = conv.in_channels
    return (
        conv.kernel_size == (3,)
        and channels >= LEAST_CHANNELS
        and batch * frames * channels >= LEAST_VALUES
        and frames >= LEAST_TILES * 4 * conv.dilation[0]
    )
