"""Numbers of every training that are out of range, found before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """What a number may be."""

    least: float
    most: float | None = None
    """None for no limit."""
    above: bool = False
    """More than `least`, which itself will not do."""
    besides: Sequence[float | str | None] = ()
    """Other values that are taken."""
    because: str = ""
    """What these other values, or the limit, are about."""

    def problem(self, value: Any) -> str | None:
        """What the value must be, or None where it is that or no number."""
        if value in self.besides or isinstance(value, bool) or not isinstance(value, int | float):
            return None
        fits = value > self.least if self.above else value >= self.least
        if fits and (self.most is None or value <= self.most):
            return None
        words = [f"above {self.least:g}" if self.above else f"at least {self.least:g}"]
        if self.most is not None:
            words = [f"from {self.least:g} to {self.most:.10g}"]
        words += [str(other) for other in self.besides if other is not None]
        return " or ".join(words) + (f" ({self.because})" if self.because else "")


_ONE = Range(1)
_NONE = Range(0)

RANGES: Mapping[str, Range] = {
    "seed": Range(0, 2**32 - 1),
    "data.batch_size": Range(1, besides=("auto",)),
    "data.crop_frames": _ONE,
    "data.only_crops": Range(1, because="null takes all"),
    "data.workers": _NONE,
    "data.valid_crop_frames": _ONE,
    "data.valid_max_crops": _ONE,
    "data.valid_batch_size": _ONE,
    "arch.render_frames": Range(1, because="null renders whole crops"),
    "arch.gradient_clip_norm": Range(0, above=True),
    "optim.lr": _NONE,
    "optim.weight_decay": _NONE,
    "trainer.devices": Range(1, besides=(-1, "auto"), because="-1 takes every GPU"),
    "trainer.num_nodes": _ONE,
    "trainer.max_steps": Range(1, besides=(-1,), because="-1 goes on until it is stopped"),
    "trainer.validate_every_steps": _ONE,
    "trainer.log_every_steps": _ONE,
    "trainer.accumulate_grad_batches": _ONE,
    "trainer.limit_val_batches": Range(0, because="0 validates nothing"),
    "callbacks.checkpoints.every_steps": _ONE,
    "callbacks.samples.count": _NONE,
}


def range_faults(config: Mapping[str, Any]) -> list[str]:
    """One message for each of `RANGES` that a plain configuration leaves.

    Settings that it does not have, and values of another type, are for others to judge.
    """
    faults = []
    for path, allowed in RANGES.items():
        value = _at(config, path)
        problem = allowed.problem(value)
        if problem is not None:
            faults.append(f"{path}={value} must be {problem}")
    trainer = config.get("trainer") or {}
    share = trainer.get("limit_val_batches")
    if isinstance(share, float) and share > 1:
        faults.append(
            f"trainer.limit_val_batches={share} must be a whole number of batches, or a share of "
            f"them from 0.0 to 1.0"
        )
    if trainer.get("accelerator") == "cpu" and trainer.get("devices") == -1:
        faults.append("trainer.devices=-1 takes every GPU; on a CPU, give a number of processes")
    return faults


def _at(config: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or None."""
    node: Any = config
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node
