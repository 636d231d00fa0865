"""Where a part finds its weights: where it is told, else in the checkpoints folder by name."""

import os
from pathlib import Path

from svc.checkpoints import registry
from svc.checkpoints.pinning import require_intact
from svc.checkpoints.registry import Weights, shown_size
from svc.errors import UserError

_TRUE = {"1", "true", "yes", "on"}


def checkpoints_folder() -> Path:
    """$SVC_CHECKPOINT_DIR, else `checkpoints` in the folder that one is in."""
    return Path(os.environ.get("SVC_CHECKPOINT_DIR") or "checkpoints").expanduser()


def is_offline() -> bool:
    """Whether SVC_OFFLINE forbids to fetch anything."""
    return os.environ.get("SVC_OFFLINE", "").strip().lower() in _TRUE


def present_file(weights: Weights, folder: Path | None = None) -> Path | None:
    """The file in the checkpoints folder, or None where it is not there. Not verified."""
    path = (folder or checkpoints_folder()) / weights.file
    return path if path.exists() else None


def weights_file(
    name: str,
    given: str | None,
    *,
    offline: bool = False,
    setting: str = "content.model",
    alternatives: str = "",
) -> Path:
    """The file that a part reads its weights from; fetched where that is needed and allowed.

    Args:
        name: in the registry.
        given: a file, or a folder that holds the registry's file; it wins, and any hash is right.
            None stands for the registry's file in the checkpoints folder.
        offline: do not fetch. SVC_OFFLINE=1 does the same.
        setting: the setting that `given` comes from, for messages.
        alternatives: what works without these weights, for messages; "" takes the registry's words.

    Returns:
        An absolute path.

    Raises:
        UserError: the file is not there and cannot be had, is not the one that is published (or
            pinned), or its licence has to be accepted first.
    """
    weights = registry.entry(name)
    if given is not None:
        return _given_file(weights, given, setting)
    path = present_file(weights)
    if path is None:
        path = _fetched(weights, offline or is_offline(), setting, alternatives)
    require_intact(weights, path)
    return path.resolve()


def missing_message(
    weights: Weights, folder: Path, setting: str | None = None, alternatives: str = ""
) -> str:
    """What to put where, in place of a download, and what works without."""
    places = [address.resolved() for address in weights.addresses] or [weights.source]
    other = f", or give {setting}=FILE" if setting else ""
    return (
        f"Put {weights.file} ({shown_size(weights.size_bytes)}, from {' or '.join(places)}) into "
        f"{folder.absolute()}{other}. "
        f"Without it: {alternatives or registry.alternatives(weights.kind)}"
    )


def _given_file(weights: Weights, given: str, setting: str) -> Path:
    path = Path(given).expanduser()
    if path.is_dir() and (path / weights.file).is_file():
        path = path / weights.file
    if not path.is_file():
        found = "is a folder without it" if path.is_dir() else "does not exist"
        raise UserError(
            f"{setting}={given} {found}. Give a file in the layout of {weights.file}, or leave "
            f"{setting} at null for {weights.name} from {checkpoints_folder().absolute()}."
        )
    return path.resolve()


def _fetched(weights: Weights, offline: bool, setting: str, alternatives: str) -> Path:
    folder = checkpoints_folder()
    advice = missing_message(weights, folder, setting, alternatives)
    if offline:
        raise UserError(
            f"The weights {weights.name} are not here, and nothing is fetched while offline "
            f"(offline=true or SVC_OFFLINE=1). {advice}"
        )
    if weights.must_accept:
        raise UserError(
            f"The weights {weights.name} are not here and are under {weights.licence}: "
            f"{weights.licence_note}\nIf you accept that: svc-download {weights.name} "
            f"accept_licence=true"
        )
    from rich.console import Console

    from svc.checkpoints.download import fetch

    Console(stderr=True).print(
        f"Fetching {weights.name} once ({shown_size(weights.size_bytes)}, licence "
        f"{weights.licence}) into {folder}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    try:
        return fetch(weights, folder)
    except UserError as error:
        raise UserError(f"{error}\n{advice}") from error
