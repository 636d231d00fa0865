"""Convolutions over time with three taps from fewer products: minimal filtering, F(4, 3) and
F(2, 3) of Winograd (1980, "Arithmetic Complexity of Computations"), in the form of Lavin and Gray
(2016, "Fast Algorithms for Convolutional Neural Networks", sections 3 and 4.3)."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svc.hardware import cpu_has_bf16_units, cpu_has_matrix_units
from svc.models.packed_linear import PackedLinear

LEAST_CHANNELS = 256
LEAST_VALUES = 2**16
"""Frames times channels. Below, oneDNN's convolution is as fast: transforms grow with the channels
and products with their square, and six matrices have to be read instead of three. Measured with
twice as many channels out as in."""
LEAST_TILES = 4
"""What is computed beyond the end, up to a tile, is then at most a quarter."""


class WinogradConv(ABC):
    """`conv1d(x, weight, bias, padding=dilation, dilation=dilation)` without a graph, on a CPU.

    Outputs that lie a dilation apart make a tile; `outputs` of them share `outputs` + 2 inputs, and
    take so many products of matrices instead of three times `outputs`.

    Args:
        weight: [O, I, 3] float32.
        bias: [O] float32, or None.
        dilation: at least 1.

    Raises:
        ValueError: the weight has not three taps.
    """

    outputs: ClassVar[int]
    """Of a tile."""
    dtype: ClassVar[torch.dtype]
    """Of inputs and outputs."""
    weight_transform: ClassVar[list[list[float]]]
    """G, [outputs + 2, 3]. A bias of the second product is one of every output."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int) -> None:
        if weight.ndim != 3 or weight.shape[-1] != 3:
            raise ValueError(f"weight {list(weight.shape)} must be [O, I, 3]")
        self._channels_out = weight.shape[0]
        self._dilation = dilation
        weight = weight.detach().float()
        transform = weight.new_tensor(self.weight_transform)
        self._products = [
            PackedLinear(matrix, bias if index == 1 else None, self.dtype)
            for index, matrix in enumerate(torch.einsum("kt,oit->koi", transform, weight))
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """[B, N, I] -> [B, N, O], of `dtype`."""
        batch, frames, channels = x.shape
        tile = self.outputs * self._dilation
        tiles = -(-frames // tile)
        beyond = tile * tiles - frames
        steps = F.pad(x, (0, 0, self._dilation, beyond + self._dilation))
        steps = steps.view(batch, self.outputs * tiles + 2, self._dilation, channels)
        y = x.new_empty(batch, tiles, self.outputs, self._dilation, self._channels_out)
        last = max(0, self.outputs * (tiles - 1) + 1)
        inputs = (
            steps[:, first : first + last : self.outputs] for first in range(self.outputs + 2)
        )
        self._run(*inputs, y=y)
        return y.view(batch, frames + beyond, self._channels_out)[:, :frames]

    @abstractmethod
    def _run(self, *inputs: Tensor, y: Tensor) -> None:
        """outputs + 2 times [B, tiles, dilation, I] -> y [B, tiles, outputs, dilation, O]."""


class Winograd43(WinogradConv):
    """Four outputs from six products, for float32.

    With three taps g they are 12 products of an input and a weight; computed from values of two
    polynomials at 0, 1, -1, 2, -2 and infinity they are 6:

        y = A^T [(G g) * (B^T x)]

              4  0 -5  0  1  0             6  0  0
              0 -4 -4  1  1  0            -4 -4 -4            1  1  1  1  1  0
        B^T = 0  4 -4 -1  1  0   G = 1/24 -4  4 -4     A^T =  0  1 -1  2 -2  0
              0 -2 -1  2  1  0             1  2  4            0  1  1  4  4  0
              0  2 -1 -2  1  0             1 -2  4            0  1 -1  8 -8  1
              0  4  0 -5  0  1             0  0 24

    The error is that of a convolution in float32: 1.1e-6 of the output's norm with 512 channels,
    where oneDNN's direct convolution has 8e-7.
    """

    outputs = 4
    dtype = torch.float32
    weight_transform: ClassVar = [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]

    def _run(self, *inputs: Tensor, y: Tensor) -> None:
        x0, x1, x2, x3, x4, x5 = inputs
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


class Winograd23(WinogradConv):
    """Two outputs from four products instead of six, for bfloat16.

              1  0 -1  0             2  0  0
        B^T = 0  1  1  0   G = 1/2   1  1  1   A^T =  1  1  1  0
              0 -1  1  0             1 -1  1          0  1 -1  1
              0 -1  0  1             0  0  2

    The error is 0.5 % of the output's norm with 512 channels, where oneDNN's direct convolution has
    0.3 %; the larger numbers in the transforms of F(4, 3) would make it several per cent.
    """

    outputs = 2
    dtype = torch.bfloat16
    weight_transform: ClassVar = [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]

    def _run(self, *inputs: Tensor, y: Tensor) -> None:
        x0, x1, x2, x3 = inputs
        product = self._products
        plus, minus = product[1](x1 + x2), product[2](x2 - x1)
        torch.add(plus + minus, product[0](x0 - x2), out=y[:, :, 0])
        torch.add(plus.sub_(minus), product[3](x3 - x1), out=y[:, :, 1])


def winograd_for(dtype: torch.dtype) -> type[WinogradConv] | None:
    """What beats oneDNN's convolution in wide layers on this CPU; None where nothing does.

    In bfloat16 the transforms cost as much as in float32 while the products cost less, the faster
    the units for them: half the time with AVX-512 BF16, where a quarter is saved; a quarter of it
    with AMX, where nothing would be left to save.
    """
    if dtype == torch.float32:
        return Winograd43
    if dtype == torch.bfloat16 and cpu_has_bf16_units() and not cpu_has_matrix_units():
        return Winograd23
    return None


def is_faster(conv: nn.Conv1d, batch: int, frames: int) -> bool:
    """Whether `winograd_for` is worth it for [B, N, I], its weights being transformed already."""
    channels = conv.in_channels
    return (
        conv.kernel_size == (3,)
        and channels >= LEAST_CHANNELS
        and batch * frames * channels >= LEAST_VALUES
        and frames >= LEAST_TILES * 4 * conv.dilation[0]
    )
