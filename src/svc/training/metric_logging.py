"""Numbers to whichever loggers there are, with generator updates as the x axis."""

from collections.abc import Mapping

from lightning.pytorch import Trainer
from torch import Tensor


def log_metrics(trainer: Trainer, metrics: Mapping[str, Tensor | float], step: int) -> None:
    """Write scalars to every logger under `step`.

    Lightning's own way counts batches on the x axis, which drifts away from updates as soon as a
    step is skipped. Reading tensors waits for the device, so call this every so many steps.

    Args:
        trainer: holds the loggers; on other ranks than 0 they do nothing.
        metrics: scalars by name.
        step: generator updates so far.
    """
    values = {name: float(value) for name, value in metrics.items()}
    for logger in trainer.loggers:
        logger.log_metrics(values, step=step)
        logger.save()


def logging_is_due(trainer: Trainer) -> bool:
    """Whether metrics are written after this update (`log_every_steps` of the trainer)."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return trainer.global_step % every == 0
