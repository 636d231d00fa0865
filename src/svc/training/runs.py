"""Run folders: what they hold, which one to continue, and how."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from svc.atomic_file import replace_text
from svc.checkpoints.training_checkpoint import load_progress
from svc.errors import UserError, UserErrors

RUN_FILE = "run.yaml"
"""The resolved configuration of a run, in its folder."""

LAST_CHECKPOINT = Path("checkpoints") / "last.ckpt"
"""The checkpoint to continue from, in a run's folder."""

VOLATILE_KEYS = (
    "resume",
    "offline",
    "*.offline",
    "paths",
    "logger",
    "callbacks",
    "run_name",
    "data.workers",
    "data.cache",
    "preparation.workers",
    "preparation.batch_s",
    "trainer.max_steps",
    "trainer.validate_every_steps",
    "trainer.validate_each_epoch",
    "trainer.log_every_steps",
    "trainer.limit_val_batches",
)
"""Settings (or groups) in which a run and its continuation may differ: they do not change what is
learnt at a given step. A star stands for anything."""

_UNFOUNDED_WARNINGS = (
    # The data module's state takes it to the right batch without a resumable loader.
    r".*resuming from a checkpoint that ended before the epoch ended",
    # On purpose: our batches are copied in the background.
    r".*overridden `transfer_batch_to_device` in `LightningModule`",
    # A vocoder that only renders stays in evaluation mode.
    r".*module\(s\) in eval mode at the start of training",
    # The sums behind our validation metrics are reduced over the processes before they are logged.
    r".*use `self.log\(.*sync_dist=True",
    # How many workers there are is the user's setting.
    r".*does not have many workers which may be a bottleneck",
)


def write_run_file(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Record the plain resolved configuration of a run, in one go, for a later `resume=auto`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    replace_text(run_dir / RUN_FILE, text)


def find_resumable_run(
    runs_root: Path, config: Mapping[str, Any], ignore_keys: Sequence[str] = VOLATILE_KEYS
) -> Path | None:
    """The newest run of this configuration that has a checkpoint, for `resume=auto`.

    Newest is the one whose checkpoint was written last. Folders are searched at any depth.

    Args:
        runs_root: folder of the runs; may be missing.
        config: plain and resolved.
        ignore_keys: dotted settings, or groups, that may differ.

    Returns:
        The run's folder, or None where no run of this configuration has a checkpoint.

    Raises:
        UserError: the run's checkpoint cannot be read.
    """
    for run, recorded in _runs_newest_first(runs_root):
        if not config_differences(recorded, config, ignore_keys):
            load_progress(run / LAST_CHECKPOINT)
            return run
    return None


def newest_run_and_differences(
    runs_root: Path, config: Mapping[str, Any], ignore_keys: Sequence[str] = VOLATILE_KEYS
) -> tuple[Path, list[str]] | None:
    """The newest run with a checkpoint, whatever its configuration, and what differs in that.

    Args:
        runs_root: folder of the runs; may be missing.
        config: plain and resolved.
        ignore_keys: dotted settings, or groups, that may differ.

    Returns:
        The run's folder and `config_differences`, or None where no run has a checkpoint.
    """
    for run, recorded in _runs_newest_first(runs_root):
        return run, config_differences(recorded, config, ignore_keys)
    return None


def _runs_newest_first(runs_root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Folder and configuration of every run that has a checkpoint."""
    found = []
    for run_file in runs_root.rglob(RUN_FILE):
        checkpoint = run_file.parent / LAST_CHECKPOINT
        recorded = _read_run_file(run_file) if checkpoint.is_file() else None
        if recorded is not None:
            found.append((checkpoint.stat().st_mtime, run_file.parent, recorded))
    found.sort(key=lambda item: item[:2], reverse=True)
    return [(run, recorded) for _, run, recorded in found]


def require_same_config(
    run_dir: Path, config: Mapping[str, Any], ignore_keys: Sequence[str] = VOLATILE_KEYS
) -> None:
    """Refuse to continue a run with other settings than it was started with.

    Raises:
        UserErrors: lists every setting that differs.
        UserError: the folder holds no record of a run.
    """
    recorded = _read_run_file(run_dir / RUN_FILE)
    if recorded is None:
        raise UserError(
            f"resume: {run_dir} is not the folder of a run (it holds no readable {RUN_FILE}). Give "
            f"a checkpoint inside a run's folder, or resume=auto."
        )
    differences = config_differences(recorded, config, ignore_keys)
    if differences:
        raise UserErrors(
            f"resume: the run {run_dir} was started with other settings. Give the same ones, or "
            f"start a new run without resume:",
            differences,
        )


def config_differences(
    recorded: Mapping[str, Any],
    present: Mapping[str, Any],
    ignore_keys: Sequence[str] = VOLATILE_KEYS,
) -> list[str]:
    """Every setting in which two plain configurations differ, as "key: was a, is b"."""
    before, now = dict(_leaves(recorded)), dict(_leaves(present))
    absent = "absent"
    return [
        f"{key}: was {before.get(key, absent)!r}, is {now.get(key, absent)!r}"
        for key in sorted(before.keys() | now.keys())
        if not any(
            fnmatchcase(key, ignored) or key.startswith(f"{ignored}.") for ignored in ignore_keys
        )
        and before.get(key, absent) != now.get(key, absent)
    ]


def checkpoint_to_resume(path: Path) -> Path:
    """The checkpoint file that `resume=PATH` means: a file itself, or the last one of a run.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return path
    if (path / LAST_CHECKPOINT).is_file():
        return path / LAST_CHECKPOINT
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


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that is not a mapping; an empty mapping is a value."""
    if isinstance(node, Mapping) and (node or not path):
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, list(node) if isinstance(node, tuple) else node


def _read_run_file(path: Path) -> dict[str, Any] | None:
    """The configuration in a run file, or None where there is no such file or not a mapping."""
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    return content if isinstance(content, dict) else None
