"""A search by Optuna that goes on where it was killed."""

import logging
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from svc.cli.sweep import FIRST_TRIAL
from svc.errors import UserError, UserErrors

_TYPED = "typed"
"""What the study remembers of the command that began it."""

_lock: Any = None
"""Held while this process runs a search."""


class ResumeSearch(Callback):
    """Gets a study ready for Optuna's sweeper, in conf/hparams_search/optuna.yaml.

    The sweeper goes on with a study that is there already, but knows nothing of how it ended: here,
    trials that were killed become failed ones, only the trials that are still missing are asked
    for, and jobs are told which trials they are.
    """

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Hydra calls this in the launching process, before it makes the sweeper."""
        try:
            _prepare(config)
        except UserError as error:  # Hydra would make a warning of it, and go on
            print(f"{config.hydra.job.name}: {error}", file=sys.stderr)
            sys.exit(2)


def _prepare(config: Any) -> None:
    import optuna
    from omegaconf import flag_override
    from optuna.trial import TrialState

    sweeper, folder = config.hydra.sweeper, Path(config.hydra.sweep.dir)
    _require_minimum(sweeper.direction)
    _hold_alone(folder, sweeper.study_name)
    optuna.logging.set_verbosity(logging.WARNING)
    study = _study(sweeper.study_name, str(sweeper.storage))
    _require_same_search(study, config)
    trials = study.trials
    for trial in trials:
        if not trial.state.is_finished():
            study.tell(trial.number, state=TrialState.FAIL)
    done = sum(trial.state == TrialState.COMPLETE for trial in trials)
    if trials:
        print(
            f"{config.hydra.job.name}: the search {sweeper.study_name} goes on; {done} of "
            f"{sweeper.n_trials} trials are done. More are asked for with "
            f"hydra.sweeper.n_trials=…, a new search with another run_name.",
            file=sys.stderr,
        )
    with flag_override(config, ["readonly", "struct"], [False, False]):
        sweeper.n_trials = max(sweeper.n_trials - done, 0)
        if sweeper.sampler.get("seed") is not None:
            # The same seed would draw the same first trials once more.
            sweeper.sampler.seed += len(trials)
        number = f"+hydra.job.env_set.{FIRST_TRIAL}='{len(trials)}'"
        config.hydra.overrides.hydra.append(number)


def _require_minimum(direction: Any) -> None:
    if str(getattr(direction, "name", direction)).lower() != "minimize":
        raise UserError(
            f"hydra.sweeper.direction={direction}: a search judges by the validation loss, and "
            f"smaller is better. Leave it out."
        )


def _study(name: str, storage: str) -> Any:
    """The study of that name, a new one where the storage has none."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    if storage.startswith("sqlite") and "?" in storage:
        raise UserError(
            f"hydra.sweeper.storage={storage}: what comes after a question mark would be taken for "
            f"options of the database. Give a run_name and a paths.output_dir without one."
        )
    try:
        return optuna.create_study(
            study_name=name, storage=storage, direction="minimize", load_if_exists=True
        )
    except (ImportError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise UserError(
            f"hydra.sweeper.storage={storage}: this search cannot be kept there "
            f"({str(error).splitlines()[0]}). Give another run_name, or another storage; a file "
            f"that is damaged may be deleted, and the search then begins anew."
        ) from error


def _hold_alone(folder: Path, name: str) -> None:
    """Keep other commands out of a search; the lock ends with this process, however it ends."""
    global _lock
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".search.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"run_name={name}: this search is running already, in {folder}. One command runs all "
            f"of its trials; give another run_name, or wait."
        ) from None
    _lock = lock


def _require_same_search(study: Any, config: Any) -> None:
    """Losses of other settings would mislead the search."""
    hydra = config.hydra
    typed = {
        "settings": sorted(str(override) for override in hydra.overrides.task),
        "params": {str(key): str(value) for key, value in (hydra.sweeper.params or {}).items()},
    }
    begun = study.user_attrs.get(_TYPED)
    if begun is None:
        study.set_user_attr(_TYPED, typed)
    elif begun != typed:
        was, now = _words(begun), _words(typed)
        raise UserErrors(
            f"run_name={hydra.sweeper.study_name}: this search was begun with other settings. Give "
            f"the same ones, or another run_name for a new search:",
            [
                *(f"it was begun with {word}" for word in sorted(was - now)),
                *(f"it was begun without {word}" for word in sorted(now - was)),
            ],
        )


def _words(typed: dict[str, Any]) -> set[str]:
    return {*typed["settings"], *(f"{key}={value}" for key, value in typed["params"].items())}
