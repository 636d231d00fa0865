"""What is measured: architectures, precisions, ways to compile, and how much of everything."""

from dataclasses import asdict, dataclass
from typing import Any

from svc.training.devices import supports

ARCHITECTURES = ("hifisinger", "diffsvc")
COMPILE_MODES = ("off", "default", "max-autotune")
CONVERTED = ("fp32", "tf32", "bf16")
"""Of the precisions, those that conversion has; fp32 is what the others are compared with."""


@dataclass(frozen=True)
class Precision:
    """How products are computed."""

    lightning: str
    """Name of the trainer's setting."""
    tf32: bool
    """Whether convolutions may round what they multiply to 10 bits."""
    tolerance: float
    """Largest relative difference of the first step's losses from those of fp32."""
    drift: float
    """Largest relative difference of the total loss at the end of the short training. fp16 skips
    steps while it looks for its loss scale."""
    snr_db: float
    """Smallest ratio of a conversion to its difference from that in fp32."""


PRECISIONS = {
    "fp32": Precision("32-true", False, 1e-3, 0.15, 60.0),
    "tf32": Precision("32-true", True, 1e-2, 0.15, 30.0),
    "fp16": Precision("16-mixed", True, 2e-2, 0.3, 30.0),
    "bf16": Precision("bf16-mixed", True, 5e-2, 0.15, 15.0),
}


def problem_of(precision: str, device: str) -> str | None:
    """Why a device ("cuda" or "cpu") does not compute in a precision, or None."""
    if device == "cpu":
        return "tf32 is for NVIDIA GPUs" if precision == "tf32" else None
    return supports("gpu", 1, PRECISIONS[precision].lightning)


@dataclass(frozen=True)
class Size:
    """How much is computed."""

    overrides: dict[str, tuple[str, ...]]
    """Of the configuration of each architecture."""
    batch: int
    frames: dict[str, int]
    """Of a crop."""
    warm_up: int
    timed: int
    """Steps."""
    conversion_s: float
    """Audio of a conversion."""


SIZES = {
    "full": Size(
        overrides={
            "hifisinger": ("arch=hifisinger",),
            "diffsvc": ("arch=diffsvc", "vocoder=nsf_hifigan"),
        },
        batch=32,
        frames={"hifisinger": 32, "diffsvc": 256},
        warm_up=4,
        timed=20,
        conversion_s=20.0,
    ),
    "small": Size(
        overrides={
            "hifisinger": ("arch=hifisinger_tiny", "arch.adversarial.start_step=0"),
            "diffsvc": ("arch=diffsvc_tiny", "vocoder=nsf_hifigan_tiny"),
        },
        batch=2,
        frames={"hifisinger": 16, "diffsvc": 16},
        warm_up=1,
        timed=2,
        conversion_s=0.5,
    ),
}


@dataclass(frozen=True)
class Case:
    """One training that is measured."""

    arch: str
    precision: str
    compile: str
    """Of `COMPILE_MODES`."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
