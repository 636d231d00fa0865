"""`resume`: which run goes on, and what may be different in it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from svc.checkpoints.facts import CheckpointFacts
from svc.checkpoints.training_checkpoint import SVC_KEY, facts_in, read_checkpoint
from svc.data.fingerprint import DatasetRecord
from svc.errors import UserError, UserErrors
from svc.training.callbacks.changed_optimisation import ChangedOptimisation
from svc.training.run_changes import Change, changes_between
from svc.training.runs import (
    RUN_FILE,
    checkpoint_to_resume,
    find_resumable_run,
    newest_run_and_changes,
    read_dataset_file,
    read_run_file,
)

_logger = logging.getLogger(__name__)

_SHOWN = 5
"""Changes that `resume=auto` names where it finds nothing, and weights that do not fit."""


@dataclass(frozen=True)
class Continuation:
    """The run that goes on."""

    checkpoint: Path
    facts: CheckpointFacts | None
    """What the checkpoint says of itself; None in one that was made without."""
    step: int
    """Updates that it has made."""
    changes: tuple[Change, ...]
    """Settings that are others now, and are to be."""
    allow_changes: bool

    @property
    def run_dir(self) -> Path:
        """The folder that the checkpoint belongs to."""
        return self.checkpoint.parent.parent

    @property
    def from_here(self) -> str:
        """What to type for a run of its own that begins with these weights."""
        return f"pretrained={self.checkpoint}"


def run_to_continue(config: Mapping[str, Any]) -> Continuation | None:
    """The run that `resume` asks for, or None where a new one is wanted.

    Args:
        config: plain and checked.

    Raises:
        UserError: there is nothing to continue, or it was made with other settings.
    """
    asked, allow_changes = _asked_for(config["resume"])
    if asked is None:
        return None
    if asked == "auto":
        runs_root = Path(config["paths"]["output_dir"])
        run = find_resumable_run(runs_root, config)
        if run is None:
            raise _nothing_to_resume(runs_root, config)
        checkpoint = checkpoint_to_resume(run)
    else:
        checkpoint = checkpoint_to_resume(Path(asked))
    recorded = read_run_file(checkpoint.parent.parent)
    if recorded is None:
        raise UserError(
            f"resume: {checkpoint.parent.parent} is not the folder of a run (it holds no readable "
            f"{RUN_FILE}). Give a checkpoint inside a run's folder, or resume=auto; or leave "
            f"resume out and give pretrained={checkpoint} to start a new run with its weights."
        )
    content = read_checkpoint(checkpoint)
    facts = facts_in(content, checkpoint) if content[SVC_KEY]["facts"] is not None else None
    changes = tuple(changes_between(recorded, config))
    found = Continuation(checkpoint, facts, int(content["global_step"]), changes, allow_changes)
    _require_allowed(found)
    return found


def _asked_for(resume: Any) -> tuple[str | None, bool]:
    """Checkpoint and allow_changes; files may give the checkpoint by itself."""
    if isinstance(resume, Mapping):
        return resume.get("checkpoint"), bool(resume.get("allow_changes", False))
    return resume, False


def _nothing_to_resume(runs_root: Path, config: Mapping[str, Any]) -> UserError:
    message = (
        f"resume=auto: no run below {runs_root} has this configuration and a checkpoint. "
        f"Give the settings that the run was started with, or leave resume out to start anew."
    )
    alike = newest_run_and_changes(runs_root / config["run_name"], config)
    nearest = alike or newest_run_and_changes(runs_root, config)
    if nearest is None:
        return UserError(message)
    run, changes = nearest
    shown = [str(change) for change in changes[:_SHOWN]]
    if len(changes) > len(shown):
        shown.append(f"and {len(changes) - len(shown)} more")
    return UserErrors(
        f"{message} The newest run goes on with other settings by resume={run} "
        f"resume.allow_changes=true; it differs in:",
        shown,
    )


def _require_allowed(run: Continuation) -> None:
    """Refuse changes that were not asked for, and those that cannot be; tell of the others.

    Raises:
        UserErrors: lists every change.
    """
    if any(change.fixed for change in run.changes):
        raise UserErrors(
            f"resume: the run {run.run_dir} cannot go on with these settings. Give what cannot "
            f"change within a run as it was; or leave resume out to start a new one, which "
            f"{run.from_here} has begin with the weights of this one:",
            [
                f"{change} (cannot change: {change.fixed})" if change.fixed else str(change)
                for change in run.changes
            ],
        )
    if run.changes and not run.allow_changes:
        raise UserErrors(
            f"resume: the run {run.run_dir} was trained with other settings. Give "
            f"resume.allow_changes=true to go on with the new ones, or give the old ones, or leave "
            f"resume out to start anew:",
            [str(change) for change in run.changes],
        )
    if run.changes:
        _logger.info("Going on with other settings: %s.", "; ".join(map(str, run.changes)))


def require_known_dataset(run: Continuation, now: DatasetRecord) -> None:
    """Refuse a dataset that has changed, unless that is allowed and its speakers are in the table.

    Args:
        run: that goes on.
        now: of the dataset that it would go on with.

    Raises:
        UserErrors: the dataset is another one; lists what has changed.
        UserError: it has speakers that the model does not know.
    """
    then = read_dataset_file(run.run_dir) or _dataset_in(run.facts)
    changes = then.changes(now) if then is not None else []
    if changes and not run.allow_changes:
        raise UserErrors(
            f"resume: the dataset is not what the run {run.run_dir} was trained on. Give "
            f"resume.allow_changes=true to go on with it as it is now, or bring back the old one, "
            f"or leave resume out to start anew:",
            changes,
        )
    known = run.facts.speakers if run.facts is not None else now.speakers
    if new := [name for name in now.speakers if name not in known]:
        raise UserError(
            f"resume: the dataset has speakers that the run {run.run_dir} does not know: "
            f"{', '.join(new)}; its table is {', '.join(known)}, and cannot grow within a run. "
            f"Leave resume out and give {run.from_here} finetune.speakers=add to start a new run "
            f"with its weights."
        )
    if changes:
        _logger.info("Going on with another dataset: %s.", "; ".join(changes))


def _dataset_in(facts: CheckpointFacts | None) -> DatasetRecord | None:
    if facts is None or facts.dataset is None:
        return None
    try:
        return DatasetRecord.from_plain(facts.dataset)
    except ValueError:
        return None


def require_weights_that_fit(run: Continuation, module: nn.Module) -> None:
    """Refuse a checkpoint whose weights have no place in the module.

    Raises:
        UserErrors: lists weights of other shapes, and those that only one side has.
    """
    there: dict[str, Any] = read_checkpoint(run.checkpoint)["state_dict"]
    here = dict(module.named_parameters(remove_duplicate=False))
    faults = [
        f"{name}: {list(there[name].shape)} in the checkpoint, {list(weight.shape)} now"
        for name, weight in here.items()
        if name in there and there[name].shape != weight.shape
    ]
    expected = module.state_dict().keys()
    faults += [f"{name}: not in the checkpoint" for name in sorted(expected - there.keys())]
    faults += [f"{name}: only in the checkpoint" for name in sorted(there.keys() - expected)]
    if not faults:
        return
    rest = len(faults) - _SHOWN
    because = f" ({', '.join(change.key for change in run.changes)})" if run.changes else ""
    raise UserErrors(
        f"resume: the weights in {run.checkpoint} do not fit the networks of these settings"
        f"{because}. Give the settings that decide their shapes as they were, or leave resume out "
        f"to start anew:",
        [*faults[:_SHOWN], *([f"and {rest} more"] if rest > 0 else [])],
    )


def changed_optimisation(run: Continuation, config: Mapping[str, Any]) -> list[ChangedOptimisation]:
    """What makes changed settings of optimiser and schedule hold, where there are any.

    They are those in which the checkpoint differs, which is older than the record of the run where
    that was killed before it wrote another.

    Args:
        run: that goes on.
        config: plain, of its continuation.
    """
    recorded = run.facts.config if run.facts is not None else read_run_file(run.run_dir) or {}
    keys = [change.key for change in changes_between(recorded, config, ignore_keys=())]
    options = {key.removeprefix("optim.") for key in keys if key.startswith("optim.")}
    schedule = any(key.split(".")[0] == "scheduler" for key in keys)
    return [ChangedOptimisation(options, schedule)] if options or schedule else []
