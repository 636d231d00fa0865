"""Long signals in pieces that fit into the caches of a CPU."""

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK_VALUES = 2**21
"""Values of a signal in one piece: 8 MiB in float32."""
SHORTEST_CHUNK = 4096
"""Time steps of the output below which a piece is not worth the overlap and the loading of the
weights."""


def upsample_in_chunks(
    stage: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    source: Tensor,
    *,
    channels: int,
    rate: int,
    reach: int,
) -> Tensor:
    """`stage(x, source)` computed piece by piece, with the same result.

    The tensors that live inside a stage then stay in the cache and in memory that is already
    mapped; in one piece, a pass over 20 s spends half of its time waiting for memory.

    Args:
        stage: maps x [B, C, 1, T] and source [B, 1, 1, T * rate * stride] to
            [B, channels, 1, T * rate].
        x: the signal.
        source: a second input, at a multiple of the output's rate.
        channels: of the output.
        rate: output steps per step of x.
        reach: steps of x on each side of a step that can influence its output.

    Returns:
        [B, channels, 1, T * rate], channels last in memory.
    """
    steps = x.shape[-1]
    chunk = max(CHUNK_VALUES // channels, SHORTEST_CHUNK) // rate
    if steps <= chunk + 2 * reach:
        return stage(x, source)
    source_rate = source.shape[-1] // steps
    output = torch.empty(
        (x.shape[0], channels, 1, steps * rate),
        dtype=x.dtype,
        memory_format=torch.channels_last,
    )
    for start in range(0, steps, chunk):
        stop = min(start + chunk, steps)
        first, last = max(start - reach, 0), min(stop + reach, steps)
        piece = stage(x[..., first:last], source[..., first * source_rate : last * source_rate])
        kept = slice((start - first) * rate, (stop - first) * rate)
        output[..., start * rate : stop * rate] = piece[..., kept]
    return output
