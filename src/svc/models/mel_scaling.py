"""Log mels in the range that a diffusion works in."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class MelScaling(nn.Module):
    """Maps [minimum, maximum] of a log mel to [-1, 1] and back (DiffSinger, Liu et al. 2022).

    The bounds are buffers: a checkpoint brings its own, whatever this was built with.

    Args:
        minimum: lower bound in nepers, of all bins or of each.
        maximum: upper bound in nepers, of all bins or of each.

    Raises:
        ValueError: the bounds are not finite, not in order, or of different length.
    """

    minimum: Tensor
    """[1] or [M] float32."""
    maximum: Tensor
    """Like `minimum`."""

    def __init__(
        self, minimum: float | Sequence[float] = -13.0, maximum: float | Sequence[float] = 2.0
    ) -> None:
        super().__init__()
        for name in ("minimum", "maximum"):
            self.register_buffer(name, torch.zeros(1))
        self.set_bounds(minimum, maximum)

    def set_bounds(
        self, minimum: float | Sequence[float], maximum: float | Sequence[float]
    ) -> None:
        """Other bounds, in place; see the class."""
        low, high = (
            [float(v) for v in (values if isinstance(values, Sequence) else [values])]
            for values in (minimum, maximum)
        )
        if len(low) != len(high) or not low:
            raise ValueError(
                f"minimum ({len(low)} values) and maximum ({len(high)} values) must be equally long"
            )
        if not all(-math.inf < lo < hi < math.inf for lo, hi in zip(low, high, strict=True)):
            raise ValueError(f"minimum={low} must be finite and below maximum={high}")
        device = self.minimum.device
        self.minimum, self.maximum = (
            torch.tensor(values, dtype=torch.float32, device=device) for values in (low, high)
        )

    def normalise(self, mel: Tensor) -> Tensor:
        """[B, M, N] natural-log mel -> float32, [minimum, maximum] as [-1, 1]; values beyond the
        bounds lie beyond, they are not cut off.

        Raises:
            ValueError: the shape does not fit the bounds.
        """
        low, span = self._bounds(mel)
        return (mel.float() - low) / span * 2 - 1

    def denormalise(self, scaled: Tensor) -> Tensor:
        """The way back, [B, M, N] float32.

        Raises:
            ValueError: the shape does not fit the bounds.
        """
        low, span = self._bounds(scaled)
        return (scaled.float() + 1) / 2 * span + low

    def _bounds(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Minimum and span, both [M, 1] or [1, 1]."""
        bins = len(self.minimum)
        if mel.ndim != 3 or bins not in (1, mel.shape[1]):
            raise ValueError(
                f"mel {list(mel.shape)} must be [B, M, N]"
                + (f" with M = {bins}, as many as there are bounds" if bins > 1 else "")
            )
        return self.minimum[:, None], (self.maximum - self.minimum)[:, None]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Takes bounds of one length for those of another."""
        for name in ("minimum", "maximum"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, torch.empty_like(saved, device=self.minimum.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def dataset_scaling(
    minimum: Sequence[float], maximum: Sequence[float], smallest_span: float = 0.1
) -> MelScaling:
    """From the smallest and the largest value of each bin in a dataset.

    Args:
        minimum: [M] in nepers.
        maximum: [M] in nepers, nowhere below `minimum`.
        smallest_span: bins that span less are given this span around their middle.

    Raises:
        ValueError: the statistics are not finite, not in order, or of different length.
    """
    low, high = (torch.tensor(values, dtype=torch.float64) for values in (minimum, maximum))
    if low.shape != high.shape or bool((low > high).any()):
        raise ValueError(
            f"the statistics must hold one minimum and one maximum per bin, in order; got "
            f"{list(minimum)} and {list(maximum)}"
        )
    missing = (smallest_span - (high - low)).clamp_min(0) / 2
    return MelScaling((low - missing).tolist(), (high + missing).tolist())
