"""SIGTERM ends a run in good order: with its work saved."""

import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from svc.errors import EndedOnRequest
from svc.training.callbacks.checkpoints import LastAndBestCheckpoints
from svc.training.network_module import NetworkModule


class StopOnSignal(Callback):
    """Saves the last checkpoint and ends the run (`EndedOnRequest`) after the update during which
    SIGTERM came, or at once during a validation. In a distributed run, one process that is asked
    ends all.

    Batch systems and clouds send SIGTERM some 30 s before they kill.
    """

    def __init__(self) -> None:
        self._asked = False
        self._previous: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in place of Lightning, which would leave without saving."""
        self._asked = False
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._remember)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen no more."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, _: BaseException) -> None:
        """Listen no more."""
        self._restore()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """End the run if that was asked for and no gradients are being accumulated."""
        between_updates = not isinstance(pl_module, NetworkModule) or pl_module.is_between_updates
        if between_updates:
            self._end_if_asked(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """A validation may take longer than whoever asked will wait."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._end_if_asked(trainer)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def _restore(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None

    def _end_if_asked(self, trainer: Trainer) -> None:
        if not trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            return
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, LastAndBestCheckpoints):
                callback.save_last(trainer)
        message = (
            f"asked to end (SIGTERM) after {trainer.global_step} steps; all of them are saved. "
            f"Continue with resume=auto."
        )
        raise EndedOnRequest(message if trainer.is_global_zero else "")
