"""What a run came to, in a small file in its folder."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from svc.atomic_file import replace_text
from svc.memory import peak_memory_gib

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

SUMMARY_FILE = "summary.json"
"""In the folder of a run that has ended well."""

SCORE = "valid_loss"
"""What runs are compared by, and searches minimise."""


@dataclass(frozen=True)
class RunSummary:
    """What a leaderboard shows of a run."""

    metrics: Mapping[str, float]
    """Of the last validation, by name; those that are not finite are left out."""
    steps: int
    """Generator updates, with those of the runs that it continues."""
    steps_per_s: float | None
    """Without validation; None where there were fewer than two."""
    peak_memory_gib: float
    """Of the first process: on a GPU what tensors took there, on a CPU all that is resident."""
    wall_s: float
    """Training and validation, without preparation."""
    pruned: bool = False
    """Whether a search has ended it, because others did better."""

    @property
    def score(self) -> float | None:
        """The last validation loss, smaller is better; None where there is no finite one."""
        return self.metrics.get(SCORE)


def summarise(trainer: "Trainer", wall_s: float) -> RunSummary:
    """The summary of the run that a trainer has just ended, on its own process.

    Args:
        trainer: after `fit`.
        wall_s: how long that took.
    """
    from svc.training.callbacks.pruning import SearchPruning
    from svc.training.callbacks.throughput import Throughput

    callbacks: list[object] = list(trainer.callbacks)  # type: ignore[attr-defined]
    throughput = next((c for c in callbacks if isinstance(c, Throughput)), None)
    metrics = {
        str(name): float(value)
        for name, value in trainer.callback_metrics.items()
        if str(name).startswith("valid")
    }
    return RunSummary(
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        steps=trainer.global_step,
        steps_per_s=throughput.run_steps_per_s if throughput else None,
        peak_memory_gib=_peak_memory_gib(trainer, throughput.gpu_peak_bytes if throughput else 0),
        wall_s=wall_s,
        pruned=any(isinstance(c, SearchPruning) and c.pruned for c in callbacks),
    )


def _peak_memory_gib(trainer: "Trainer", gpu_peak_bytes: int) -> float:
    import torch

    device = trainer.strategy.root_device
    if device.type != "cuda":
        return peak_memory_gib()
    return max(gpu_peak_bytes, torch.cuda.max_memory_allocated(device)) / 2**30


def write_summary(run_dir: Path, summary: RunSummary) -> None:
    """Record the summary of a run in its folder, in one go."""
    replace_text(run_dir / SUMMARY_FILE, json.dumps(asdict(summary), indent=1) + "\n")


def keep_summary(run_dir: Path, summary: RunSummary) -> RunSummary:
    """Record the summary of a run that has ended, and say so where that cannot be: the run is not
    worth less for it. A run that had come to its end before keeps the summary that it had then.

    Returns:
        What holds.
    """
    from svc.training.file_loggers import surviving_full_disk

    earlier = read_summary(run_dir)
    if earlier is not None and earlier.steps == summary.steps and not summary.metrics:
        return earlier
    with surviving_full_disk(SUMMARY_FILE):
        write_summary(run_dir, summary)
    return summary


def read_summary(run_dir: Path) -> RunSummary | None:
    """What `write_summary` recorded, or None where there is nothing that can be read."""
    try:
        recorded = json.loads((run_dir / SUMMARY_FILE).read_text(encoding="utf-8"))
        return RunSummary(**{field.name: recorded[field.name] for field in fields(RunSummary)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
