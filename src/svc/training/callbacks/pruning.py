"""Ends a run of a search that does worse than the others."""

import logging
import math
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

_logger = logging.getLogger(__name__)

_BUSY_S = 60
"""How long to wait for other runs that write into the same file."""


class SearchPruning(Callback):
    """Reports every validation to an Optuna study, and ends the run where its pruner says so.

    Optuna's sweeper for Hydra knows nothing of what happens within a run, so that this callback
    writes into the study's storage itself. To the sweeper, a run that was ended is one with the
    loss that it had got to. A run whose loss is not finite is ended as well. Where the storage
    cannot be written, that is said and training goes on.

    Args:
        study: name of the study.
        storage: where it is kept, as a URL of SQLAlchemy; every process must reach it.
        trial: number of the trial in the study that this run is; None does nothing.
        pruner: judges, such as Optuna's MedianPruner.
        monitor: metric of the validation, smaller is better.
    """

    def __init__(
        self,
        *,
        study: str,
        storage: str,
        trial: int | None,
        pruner: "BasePruner",
        monitor: str = "valid_loss",
    ) -> None:
        self.study = study
        self.storage = storage
        self.trial = trial
        self.pruner = pruner
        self.monitor = monitor
        self.pruned = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and stop where the run is not worth its time; the first process decides."""
        if self.trial is None or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        worse = False
        if trainer.is_global_zero:
            value = float(trainer.callback_metrics.get(self.monitor, math.nan))
            worse = self._is_worse(trainer.global_step, value)
        at_end = 0 < trainer.max_steps <= trainer.global_step
        self.pruned = bool(trainer.strategy.broadcast(worse)) and not at_end
        if self.pruned:
            _logger.info(
                "Step %d: the search ends this run, because others did better.", trainer.global_step
            )
            trainer.should_stop = True

    def _is_worse(self, step: int, value: float) -> bool:
        if not math.isfinite(value):
            return True  # it will not recover, and no database would take the number
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        patient = {"connect_args": {"timeout": _BUSY_S}} if "sqlite" in self.storage else {}
        try:
            storage: Any = optuna.storages.RDBStorage(self.storage, engine_kwargs=patient)
            known = storage.get_study_id_from_name(self.study)
            trial_id = storage.get_trial_id_from_study_id_trial_number(known, self.trial)
            storage.set_trial_intermediate_value(trial_id, step, value)
            study = optuna.load_study(study_name=self.study, storage=storage)
            return bool(self.pruner.prune(study, storage.get_trial(trial_id)))
        except (optuna.exceptions.OptunaError, SQLAlchemyError, KeyError) as error:
            why = str(error).splitlines()[0]
            _logger.warning("Step %d: the search cannot be told how it goes: %s", step, why)
            return False
