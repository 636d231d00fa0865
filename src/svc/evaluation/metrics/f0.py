"""How well one pitch contour follows another."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

GROSS_ERROR_CENTS = 600.0
"""Half an octave: beyond it the tracker or the voice is in another octave."""


@dataclass(frozen=True)
class F0Errors:
    """Errors of a contour against the truth."""

    median_abs_cents: float
    """Median distance over the frames that both call voiced; NaN where there are none."""
    share_within_50_cents: float
    """Share of those frames that are less than 50 cents off; NaN where there are none."""
    gross_error_share: float
    """Share of those frames that are more than half an octave off; NaN where there are none."""
    voicing_error_share: float
    """Share of all frames where the voiced decision differs; NaN where there are no frames."""
    frames_compared: int
    """Number of frames that both call voiced."""


def compare_f0(
    f0_hz: Tensor, voiced: Tensor, truth_f0_hz: Tensor, truth_voiced: Tensor
) -> F0Errors:
    """Compare two contours frame by frame.

    Args:
        f0_hz: [N], > 0 where voiced.
        voiced: [N] bool.
        truth_f0_hz: [N], > 0 where voiced.
        truth_voiced: [N] bool.

    Raises:
        ValueError: the lengths differ, or a voiced frame has no F0.
    """
    if len({tensor.shape for tensor in (f0_hz, voiced, truth_f0_hz, truth_voiced)}) != 1:
        raise ValueError(
            f"contours must have the same length, got {tuple(f0_hz.shape)}, "
            f"{tuple(voiced.shape)}, {tuple(truth_f0_hz.shape)} and {tuple(truth_voiced.shape)}"
        )
    both = voiced & truth_voiced
    wanted, got = truth_f0_hz[both].double(), f0_hz[both].double()
    if bool((wanted <= 0).any()) or bool((got <= 0).any()):
        raise ValueError("F0 must be positive in every voiced frame")
    voicing_error = float((voiced != truth_voiced).double().mean()) if len(voiced) else math.nan
    if not len(wanted):
        return F0Errors(math.nan, math.nan, math.nan, voicing_error, 0)
    cents = (1200 * torch.log2(got / wanted)).abs()
    return F0Errors(
        # quantile averages the middle pair of an even count; Tensor.median takes the lower one.
        median_abs_cents=float(torch.quantile(cents, 0.5)),
        share_within_50_cents=float((cents < 50).double().mean()),
        gross_error_share=float((cents > GROSS_ERROR_CENTS).double().mean()),
        voicing_error_share=voicing_error,
        frames_compared=len(cents),
    )
