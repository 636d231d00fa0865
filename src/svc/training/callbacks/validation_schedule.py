"""Validation by generator updates."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

NEVER = 2**62
"""An interval in batches that no run reaches: Lightning by itself shall never validate."""


class ValidationSchedule(Callback):
    """Validates every so many generator updates, after every epoch where that is shorter, and last.

    Lightning counts batches, which are more than updates as soon as a step is skipped. After each
    batch this sets Lightning's interval, in batches since the start, to one that is due or to one
    that is not.

    Args:
        every_steps: generator updates between validations, at least 1.
        each_epoch: validate after every epoch too. Not worth it where an epoch takes a few seconds,
            as with a few minutes of recordings.
    """

    def __init__(self, every_steps: int = 1000, each_epoch: bool = True) -> None:
        self.every_steps = every_steps
        self.each_epoch = each_epoch
        self.is_due = False
        """Whether a validation comes next, or is under way: a checkpoint that was written meanwhile
        says so (`svc.training.fit_loop`)."""
        self._last_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run does not repeat the validation that its checkpoint was written after."""
        self._last_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Decide whether validation runs now."""
        step, interval = trainer.global_step, self.every_steps
        if self.each_epoch:
            interval = min(interval, int(trainer.num_training_batches))
        due = step != self._last_step and (step % interval == 0 or step == trainer.max_steps)
        batches = trainer.fit_loop.total_batch_idx + 1
        trainer.val_check_batch = batches if due else batches + 1
        if due:
            self._last_step = step
        self.is_due = validation_follows(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It is done."""
        self.is_due = False

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on has to make up for."""
        return {"is_due": self.is_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.is_due = bool(state_dict["is_due"])


def validation_follows(trainer: Trainer) -> bool:
    """Whether Lightning validates after the batch that has just ended.

    To be asked in `on_train_batch_end` after `ValidationSchedule`, which therefore comes first.
    """
    has_batches = bool(trainer.enable_validation) and sum(map(bool, trainer.num_val_batches)) > 0
    return has_batches and trainer.val_check_batch == trainer.fit_loop.total_batch_idx + 1
