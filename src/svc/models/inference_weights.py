"""Weights of convolutions as inference wants them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from svc.models.winograd import WinogradConv, winograd_for


class InferenceWeights:
    """Weights of one-dimensional convolutions, for two-dimensional ones over [B, C, 1, N].

    Inside `kept`, on a CPU, every weight is copied once: into the type that is computed in, which
    autocast would do at every call where no gradients are wanted, and into channels-last memory,
    which oneDNN would; or, in twice the memory, into what Winograd's convolution multiplies by.
    Copies do not outlive the context, because there is no telling whether weights have changed:
    fused optimisers do not count up a tensor's version.
    """

    def __init__(self) -> None:
        self._kept: dict[nn.Conv1d, tuple[Tensor, Tensor | None]] | None = None
        self._winograd: dict[tuple[nn.Conv1d, torch.dtype], WinogradConv] = {}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Weights do not change in here."""
        outer = self._kept
        self._kept = {} if outer is None else outer
        try:
            yield
        finally:
            self._kept = outer
            if outer is None:
                self._winograd = {}

    def of(self, conv: nn.Conv1d, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Weight [O, I, 1, k] and bias [O] of `dtype`."""
        kept = None if self._kept is None else self._kept.get(conv)
        if kept is not None and kept[0].dtype == dtype:
            return kept
        weight = conv.weight.detach().unsqueeze(2).to(dtype)
        bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        if self._kept is not None and weight.device.type == "cpu":
            weight = weight.contiguous(memory_format=torch.channels_last)
            self._kept[conv] = weight, bias
        return weight, bias

    def winograd(self, conv: nn.Conv1d, dtype: torch.dtype) -> WinogradConv | None:
        """The convolution by fewer products, on a CPU; None where there is none that is faster, and
        outside `kept`, because transforming the weights at every call would cost what it saves."""
        kind = winograd_for(dtype)
        if self._kept is None or kind is None:
            return None
        if (conv, dtype) not in self._winograd:
            (dilation,) = conv.dilation
            self._winograd[conv, dtype] = kind(conv.weight, conv.bias, dilation)
        return self._winograd[conv, dtype]
