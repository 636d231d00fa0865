"""The last and the best checkpoint, and no others."""

import logging
import math
import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from svc.atomic_file import remove_unfinished, replace_file
from svc.errors import UserError
from svc.training.callbacks.validation_schedule import validation_follows
from svc.training.network_module import NetworkModule

_logger = logging.getLogger(__name__)

LAST_NAME = "last.ckpt"
BEST_NAME = "best.ckpt"


class LastAndBestCheckpoints(Checkpoint):
    """Keeps `last.ckpt`, and `best.ckpt` by a validation metric.

    Both are written after validation; the last one also every so many updates and at the end, for
    runs that validate seldom or not at all, never while gradients are being accumulated. Each file
    is whole at any moment.

    Where a file cannot be written (a full disk, a folder that is gone), that is said, training goes
    on with the previous file in its place, and the next one that is due is tried again. Only a run
    whose very last checkpoint could not be written fails.

    Args:
        folder: made where it is missing.
        monitor: metric of the best checkpoint, smaller is better; a NaN is never the best.
        every_steps: generator updates between writings of the last checkpoint.
    """

    def __init__(
        self, folder: str | Path, *, monitor: str = "valid_loss", every_steps: int = 1000
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.monitor = monitor
        self.every_steps = every_steps
        self.best_score = math.inf
        self.saved_step = -1
        self._failure: OSError | None = None
        self._monitor_is_told = False

    @property
    def last_path(self) -> Path:
        """Where the last checkpoint lies."""
        return self.folder / LAST_NAME

    @property
    def best_path(self) -> Path:
        """Where the best checkpoint lies."""
        return self.folder / BEST_NAME

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that is resumed into another folder has no best checkpoint yet; one that was killed
        while it wrote may have left half of a file."""
        if not self.best_path.is_file():
            self.best_score = math.inf
        if trainer.is_global_zero:
            for path in (self.best_path, self.last_path):
                remove_unfinished(path)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not let a run end well whose work is lost."""
        self._require_saved(trainer)

    def _require_saved(self, trainer: Trainer) -> None:
        if self._failure is not None:
            raise UserError(
                f"The run is done after {trainer.global_step} steps, but its checkpoint could not "
                f"be written into {self.folder} ({self._failure}). Make room there, and continue "
                f"from the last checkpoint with resume=auto."
            ) from self._failure

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Write the last checkpoint where it is due and no validation will do so."""
        if isinstance(pl_module, NetworkModule) and not pl_module.is_between_updates:
            return  # whoever went on from there would lack the gradients of these batches
        step = trainer.global_step
        due = step % self.every_steps == 0 or step == trainer.max_steps
        if due and step != self.saved_step and not validation_follows(trainer):
            self._save(trainer, self.last_path)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last checkpoint, which may be the best as well."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._look_for_monitor(trainer)
        score = float(trainer.callback_metrics.get(self.monitor, math.nan))
        if not score < self.best_score:
            self._save(trainer, self.last_path)
            return
        previous, self.best_score = self.best_score, score
        # First the best: killed between the two, the older last one validates and saves again.
        self._save(trainer, self.best_path)
        if self._failure is not None:
            self.best_score = previous
            return
        failure = self._take_best_for_last() if trainer.is_global_zero else None
        self._settle(trainer, self.last_path, failure)

    def _look_for_monitor(self, trainer: Trainer) -> None:
        """Say once that there will be no best checkpoint, where the metric has another name."""
        metrics = trainer.callback_metrics
        measured = sorted(name for name in metrics if name.startswith("valid"))
        if self.monitor in metrics or not measured or self._monitor_is_told:
            return
        self._monitor_is_told = True
        if trainer.is_global_zero:
            _logger.warning(
                "callbacks.checkpoints.monitor=%s is not measured, so that there is no %s; "
                "there is %s.",
                self.monitor,
                BEST_NAME,
                ", ".join(measured),
            )

    def save_last(self, trainer: Trainer) -> None:
        """Write the last checkpoint now, unless it is of this very step.

        Raises:
            UserError: it cannot be written.
        """
        if trainer.global_step != self.saved_step:
            self._save(trainer, self.last_path)
        self._require_saved(trainer)

    def _take_best_for_last(self) -> OSError | None:
        """-> why that was not possible."""
        try:
            replace_file(self.last_path, lambda path: _link_or_copy(self.best_path, path))
        except OSError as error:
            return error
        return None

    def _save(self, trainer: Trainer, path: Path) -> None:
        self._settle(trainer, path, _attempt(trainer, path))

    def _settle(self, trainer: Trainer, path: Path, failure: OSError | None) -> None:
        """Remember whether this step is saved, and tell where it is not."""
        # All processes of a run must agree on what is saved, or they wait for each other.
        if trainer.strategy.reduce_boolean_decision(failure is not None, all=False):
            failure = failure or OSError("the first process of the run could not write it")
        self._failure = failure
        self.saved_step = trainer.global_step if failure is None else -1
        if failure is not None and trainer.is_global_zero:
            _logger.warning(
                "Step %d: the checkpoint %s could not be written (%s). Training goes on, and it "
                "will be tried again; what was saved before is still there.",
                trainer.global_step,
                path,
                failure,
            )

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.best_score = float(state_dict["best_score"])


def _attempt(trainer: Trainer, path: Path) -> OSError | None:
    """Write a checkpoint; -> why that was not possible, where it is the disk's fault."""
    try:
        trainer.save_checkpoint(path, weights_only=False)
    except OSError as error:
        failure = error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        # Torch's writer says where in the file it was, and not why.
        failure = OSError("not all of it could be written; is the disk full?")
    else:
        return None
    trainer.strategy.barrier()  # where the other processes wait for the file
    return failure


def _link_or_copy(source: Path, destination: Path) -> None:
    """Give the same bytes a second name, or copy them where the file system has no hard links."""
    destination.unlink(missing_ok=True)
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
