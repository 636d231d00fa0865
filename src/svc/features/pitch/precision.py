"""Where a pitch network runs, and in which arithmetic."""

from typing import Literal, get_args

import torch

from svc.errors import UserError
from svc.hardware import cpu_has_bf16_units

Precision = Literal["fp32", "bf16", "auto"]


def precision_dtype(precision: Precision, device: str) -> torch.dtype:
    """The type of a network's weights.

    Args:
        precision: "fp32", "bf16", or "auto": bf16 where the device has arithmetic for it, as
            emulated bf16 is slower than fp32.
        device: where the network runs.

    Raises:
        UserError: `precision` is none of the three, or the device is not here.
    """
    _check_device(device)
    if precision not in get_args(Precision):
        raise UserError(
            f"pitch.precision={precision} must be one of {', '.join(get_args(Precision))}."
        )
    if precision == "auto":
        precision = "bf16" if _has_bf16(device) else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UserError(f"pitch.device={device} is no device; use cpu or cuda.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"pitch.device={device}: no CUDA device is here; use pitch.device=cpu.")


def _has_bf16(device: str) -> bool:
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_has_bf16_units()
