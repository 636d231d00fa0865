"""SIGTERM and Ctrl-C end a run in good order: with its work saved."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from svc.errors import EndedOnRequest
from svc.training.callbacks.checkpoints import LastAndBestCheckpoints
from svc.training.network_module import NetworkModule

_HEARD = b"\nCtrl-C: saving after the update under way, then ending. Again: end at once, unsaved.\n"


class StopOnSignal(Callback):
    """Saves the last checkpoint and ends the run after the update during which SIGTERM or SIGINT
    came, or at once during a validation. In a distributed run, one process that is asked ends all.

    After SIGTERM that is `EndedOnRequest`: batch systems and clouds send it some 30 s before they
    kill. After SIGINT, which is what Ctrl-C sends, it is `KeyboardInterrupt`; a second one does not
    wait. Whoever has SIGINT ignored, as jobs in the background have it, is not disturbed by it.
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._previous: dict[int, Any] = {}
        self._speaks = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in place of Lightning, which would leave without saving; it has listened while
        the data were made ready."""
        lightning: Any = trainer._signal_connector
        self._asked = signal.SIGTERM if lightning.received_sigterm else None
        lightning.received_sigterm = False
        self._speaks = trainer.is_global_zero
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._remember)

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
        if number == signal.SIGINT:
            if self._asked == number:
                raise KeyboardInterrupt
            if self._speaks:
                os.write(2, _HEARD)  # Python's own streams may be in use right now
        self._asked = number

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _end_if_asked(self, trainer: Trainer) -> None:
        if not trainer.strategy.reduce_boolean_decision(self._asked is not None, all=False):
            return
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, LastAndBestCheckpoints):
                callback.save_last(trainer)
        if self._asked == signal.SIGINT:
            raise KeyboardInterrupt
        message = (
            f"asked to end (SIGTERM) after {trainer.global_step} steps; all of them are saved. "
            f"Continue with resume=auto."
        )
        raise EndedOnRequest(message if trainer.is_global_zero else "")
