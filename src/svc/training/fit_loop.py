"""Lightning's loop of a training, which makes up for a validation that was cut short."""

from lightning.pytorch import Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop

from svc.training.callbacks.validation_schedule import ValidationSchedule


class FitLoop(_FitLoop):
    """Begins a run that goes on with the validation that was due when it was asked to end: nothing
    has been learnt since, so that it comes to what it would have come to.

    It takes the place of the trainer's own loop.

    Args:
        trainer: whose callbacks hold a `ValidationSchedule`.
    """

    def __init__(self, trainer: Trainer) -> None:
        own = trainer.fit_loop
        super().__init__(trainer, own.min_epochs, own.max_epochs)
        self.epoch_loop = own.epoch_loop

    def run(self) -> None:
        """Train; a run whose last validation is all that is missing gets that."""
        self.setup_data()
        if self.skip and self._validation_is_due:
            self.on_run_start()
            self.on_run_end()
        else:
            super().run()

    def on_run_start(self) -> None:
        """Validate where that is due, once callbacks are ready."""
        super().on_run_start()
        if not self._validation_is_due:
            return
        validation = self.epoch_loop.val_loop
        validation.restarting = False  # from its first batch on
        self.trainer.validating = True
        validation.run()
        self.trainer.training = True
        # As of a run whose checkpoint was written after it. Else Lightning, at the end of an epoch,
        # believes that nothing has been restarted and ends epochs for ever.
        validation._has_run = False

    @property
    def _validation_is_due(self) -> bool:
        callbacks: list[object] = list(self.trainer.callbacks)  # type: ignore[attr-defined]
        return any(isinstance(c, ValidationSchedule) and c.is_due for c in callbacks)
