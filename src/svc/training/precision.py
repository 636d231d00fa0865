"""Mixed precision for modules with several networks."""

from typing import Literal

import torch
from lightning.pytorch.plugins import MixedPrecision, Precision

TrainingPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]

AUTOCAST_TYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Of the precisions that have autocast regions."""


class AutocastOnly(MixedPrecision):
    """Autocast without loss scaling, which the module does by itself under fp16.

    Lightning's own plugin has one gradient scaler. Two networks that share it also share its
    back-offs, and it scales before the module can measure or clip a gradient. So each network of
    an adversarial module brings its own scaler (`svc.training.network_update`).

    Args:
        precision: type of the autocast regions.
        device: "cpu" or "cuda".
    """

    def __init__(self, precision: Literal["bf16-mixed", "16-mixed"], device: str) -> None:
        super().__init__(precision, device)
        self.scaler = None


def precision_plugin(precision: TrainingPrecision, device: str) -> Precision:
    """The Lightning plugin for a precision that our modules can work with.

    Args:
        precision: "32-true", or the type of the autocast regions.
        device: "cpu" or "cuda".
    """
    return Precision() if precision == "32-true" else AutocastOnly(precision, device)
