"""Run folders: what they hold, which one to continue, and how."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from svc.atomic_file import replace_text
from svc.checkpoints.training_checkpoint import load_progress
from svc.data.fingerprint import DatasetRecord
from svc.errors import UserError
from svc.training.run_changes import Change, changes_between

RUN_FILE = "run.yaml"
"""The resolved configuration of a run, in its folder."""

DATASET_FILE = "dataset.json"
"""What a run was trained on (`svc.data.fingerprint`), in its folder."""

LAST_CHECKPOINT = Path("checkpoints") / "last.ckpt"
"""The checkpoint to continue from, in a run's folder."""

_FIRST_CHECKPOINT = Path("checkpoints") / "best.ckpt"
"""Continued from where there is no last one: of a run that was killed when its first validation had
written the one and not yet the other."""

_UNFOUNDED_WARNINGS = (
    # The data module's state takes it to the right batch without a resumable loader.
    r".*resuming from a checkpoint that ended before the epoch ended",
    # On purpose: our batches are copied in the background.
    r".*overridden `transfer_batch_to_device` in `LightningModule`",
    # A vocoder that only renders stays in evaluation mode.
    r".*module\(s\) in eval mode at the start of training",
    # The sums behind our validation metrics are reduced over the processes before they are logged.
    r".*use `self.log\(.*sync_dist=True",
    # The preparation has told that nothing is held out for validation.
    r".*Total length of `DataLoader` across ranks is zero",
    # Lines of metrics are counted in updates, whatever an epoch holds.
    r".*number of training batches .* is smaller than the logging interval",
    # How many workers there are is the user's setting.
    r".*does not have many workers which may be a bottleneck",
)


def write_run_file(
    run_dir: Path, config: Mapping[str, Any], dataset: DatasetRecord | None = None
) -> None:
    """Record what a run is trained with and on, so that it is found again and changes are noticed
    when it goes on. Each file is replaced in one go.

    Args:
        run_dir: of the run; made where it is missing.
        config: plain and resolved.
        dataset: None records nothing of it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    if dataset is not None:
        text = json.dumps(dataset.to_plain(), indent=1, ensure_ascii=False)
        replace_text(run_dir / DATASET_FILE, text + "\n")
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    replace_text(run_dir / RUN_FILE, text)


def read_run_file(run_dir: Path) -> dict[str, Any] | None:
    """The configuration that a run was last started with; None where its folder holds no readable
    record of it."""
    try:
        content = yaml.safe_load((run_dir / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    return content if isinstance(content, dict) else None


def read_dataset_file(run_dir: Path) -> DatasetRecord | None:
    """What a run was last trained on; None where its folder holds no readable record of it, as
    those of older versions."""
    try:
        return DatasetRecord.from_plain(
            json.loads((run_dir / DATASET_FILE).read_text(encoding="utf-8"))
        )
    except (OSError, ValueError):
        return None


def find_resumable_run(runs_root: Path, config: Mapping[str, Any]) -> Path | None:
    """The newest run of this configuration that has a checkpoint, for `resume=auto`.

    Newest is the one whose checkpoint was written last. Folders are searched at any depth.

    Args:
        runs_root: folder of the runs; may be missing.
        config: plain and resolved; may differ in `HARMLESS_KEYS`.

    Returns:
        The run's folder, or None where no run of this configuration has a checkpoint.

    Raises:
        UserError: the run's checkpoint cannot be read.
    """
    for run, recorded in _runs_newest_first(runs_root):
        if not changes_between(recorded, config):
            load_progress(checkpoint_to_resume(run))
            return run
    return None


def newest_run_and_changes(
    runs_root: Path, config: Mapping[str, Any]
) -> tuple[Path, list[Change]] | None:
    """The newest run with a checkpoint, whatever its configuration, and what differs in that.

    Args:
        runs_root: folder of the runs; may be missing.
        config: plain and resolved.

    Returns:
        The run's folder and `changes_between`, or None where no run has a checkpoint.
    """
    for run, recorded in _runs_newest_first(runs_root):
        return run, changes_between(recorded, config)
    return None


def _runs_newest_first(runs_root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Folder and configuration of every run that has a checkpoint."""
    found = []
    for run_file in runs_root.rglob(RUN_FILE):
        checkpoint = _newest_checkpoint(run_file.parent)
        recorded = read_run_file(run_file.parent) if checkpoint else None
        if checkpoint is not None and recorded is not None:
            found.append((checkpoint.stat().st_mtime, run_file.parent, recorded))
    found.sort(key=lambda item: item[:2], reverse=True)
    return [(run, recorded) for _, run, recorded in found]


def _newest_checkpoint(run_dir: Path) -> Path | None:
    for path in (run_dir / LAST_CHECKPOINT, run_dir / _FIRST_CHECKPOINT):
        if path.is_file():
            return path
    return None


def checkpoint_to_resume(path: Path) -> Path:
    """The checkpoint file that `resume=PATH` means: a file itself, or the last one of a run.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return path
    if (checkpoint := _newest_checkpoint(path)) is not None:
        return checkpoint
    raise UserError(
        f"resume={path}: there is neither a checkpoint file of that name nor a run with "
        f"{LAST_CHECKPOINT} in it. Give one of these, or resume=auto, or leave resume out."
    )


def fit(
    trainer: Trainer,
    module: LightningModule,
    data_module: LightningDataModule,
    resume_from: Path | None = None,
) -> None:
    """Train, from the start or from a checkpoint.

    Args:
        trainer: made by `svc.training.trainer.build_trainer`.
        module: to train.
        data_module: its own state in the checkpoint takes it to the batch that comes next.
        resume_from: checkpoint to continue.

    Raises:
        UserError: the checkpoint cannot be read.
        TrainingStopped: too many steps in a row came to nothing.
        KeyboardInterrupt: the user pressed Ctrl-C; the last checkpoint is whole.
    """
    if resume_from is not None:
        load_progress(resume_from)
    with warnings.catch_warnings():
        for unfounded in _UNFOUNDED_WARNINGS:
            warnings.filterwarnings("ignore", message=unfounded)
        try:
            trainer.fit(module, datamodule=data_module, ckpt_path=resume_from, weights_only=True)
        except SystemExit as left:
            # Lightning tidies up after Ctrl-C and then leaves the process without a word.
            if trainer.interrupted:
                raise KeyboardInterrupt from left
            raise
