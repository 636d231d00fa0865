"""The best and the last checkpoint of a run as an artifact on Weights & Biases."""

import logging
from pathlib import Path
from typing import Any, Literal

_logger = logging.getLogger(__name__)

_TYPE, _FILE = "model", "model.ckpt"
"""Type of the artifact, and the name of the one file in each of its versions."""


def log_checkpoints(run: Any, folder: Path) -> None:
    """Upload `best.ckpt` and `last.ckpt` as versions `best` and `last` of the artifact
    `model-RUN_ID`. One version has both names where they are the same file.

    Of a run that is continued, the versions that are neither any more are deleted, so that there
    are never more than two.

    Args:
        run: of wandb, under way.
        folder: of the checkpoints; those that are not there are left out.
    """
    name = f"model-{run.id}"
    logged = [_log(run, name, files) for files in _by_content(folder)]
    if logged and run.resumed and not run.offline:
        for artifact in logged:
            artifact.wait()
        _delete_older(run, name)


def _by_content(folder: Path) -> list[list[Path]]:
    """The checkpoints there are; those that are one file under two names together."""
    best, last = (folder / f"{name}.ckpt" for name in ("best", "last"))
    if best.is_file() and last.is_file() and best.samefile(last):
        return [[best, last]]
    return [[path] for path in (best, last) if path.is_file()]


def _log(run: Any, name: str, files: list[Path]) -> Any:
    import wandb

    artifact = wandb.Artifact(name, type=_TYPE)
    # An offline run needs a copy: a continuation replaces the checkpoint before it is uploaded.
    policy: Literal["mutable", "immutable"] = "mutable" if run.offline else "immutable"
    artifact.add_file(str(files[0]), name=_FILE, skip_cache=True, policy=policy)
    return run.log_artifact(artifact, aliases=[path.stem for path in files])


def _delete_older(run: Any, name: str) -> None:
    """Delete the versions that nothing names."""
    import wandb

    try:
        for version in wandb.Api().artifacts(_TYPE, f"{run.entity}/{run.project}/{name}"):
            if not version.aliases:
                version.delete()
    except (wandb.Error, ValueError, OSError) as error:
        _logger.warning("Older checkpoints of this run are still on wandb: %s", error)
