"""The best and the last checkpoint of a run as an artifact on Weights & Biases."""

import logging
from pathlib import Path
from typing import Any, Literal

from svc.training.wandb_end import UPLOAD_S

_logger = logging.getLogger(__name__)

_TYPE, _FILE = "model", "model.ckpt"
"""Type of the artifact, and the name of the one file in each of its versions."""


def log_checkpoints(run: Any, folder: Path) -> None:
    """Upload `best.ckpt` and `last.ckpt` as versions `best` and `last` of the artifact
    `model-RUN_ID`. One version has both names where they are the same file.

    Of a run that is continued, the versions that are neither any more are deleted, so that there
    are never more than two. Returns when they are uploaded; an offline run has them on the disk.

    Args:
        run: of wandb, under way.
        folder: of the checkpoints; those that are not there are left out.

    Raises:
        wandb.Error, ValueError: wandb does not take them.
    """
    import wandb

    found = _by_content(folder)
    if not found:
        return
    name = f"model-{run.id}"
    # Where it does not answer, this fails within 20 s; an upload would try for many minutes.
    api = None if run.offline else wandb.Api()
    logged = [_log(run, name, files) for files in found]
    if api is not None:
        for artifact in logged:
            artifact.wait(timeout=UPLOAD_S)
        if run.resumed:
            _delete_older(api, run, name)


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


def _delete_older(api: Any, run: Any, name: str) -> None:
    """Delete the versions that nothing names."""
    try:
        for version in api.artifacts(_TYPE, f"{run.entity}/{run.project}/{name}"):
            if not version.aliases:
                version.delete()
    except Exception as error:  # wandb's own have no common one
        _logger.warning("Older checkpoints of this run are still on wandb: %s", error)
