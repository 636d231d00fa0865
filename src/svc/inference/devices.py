"""Where and how precisely a conversion computes."""

from typing import Literal, get_args

import torch

from svc.errors import UserError

Precision = Literal["fp32", "bf16"]


def choose_device(device: str) -> torch.device:
    """The device for a name; "auto" takes the first CUDA device, else the CPU.

    Apple's MPS is not offered: no conversion has ever run on it.

    Raises:
        UserError: there is no such device here.
    """
    cuda = torch.cuda.device_count()
    available = ["cpu", *(f"cuda:{index}" for index in range(cuda))]
    if device == "auto":
        return torch.device("cuda:0" if cuda else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    name = f"cuda:{chosen.index or 0}" if chosen and chosen.type == "cuda" else str(chosen)
    if chosen is None or name not in available:
        raise UserError(
            f"device={device} is not here; choose auto or one of: {', '.join(available)}."
        )
    return chosen


def check_precision(precision: str, device: torch.device) -> None:
    """Whether a precision exists and the device computes in it.

    Raises:
        UserError: it does not, with what to use instead.
    """
    if precision not in get_args(Precision):
        raise UserError(f"precision={precision} must be one of: {', '.join(get_args(Precision))}.")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise UserError(
            f"precision=bf16 is not computed by {torch.cuda.get_device_name(device)}; use "
            f"precision=fp32."
        )
