"""Loggers that need more than their constructor."""

import logging
import netrc
import os
import secrets
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities import rank_zero_only

from svc.errors import UserError
from svc.training.wandb_logger import RunWandbLogger, sync_command

_logger = logging.getLogger(__name__)

_ID_FILE = "wandb_run_id"
"""Holds the id of a run, so that its continuations go on with the same curves."""

_WANDB_HOST = "wandb"
"""Part of the names under which netrc files keep keys of wandb's own servers."""

_SERVICE = "WANDB_SERVICE"
"""Says where wandb's process listens: 3-<id of the process that started it>-unix-<socket>."""


def wandb_logger(
    project: str,
    save_dir: str,
    *,
    name: str | None = None,
    entity: str | None = None,
    offline: bool | Literal["auto"] = "auto",
    checkpoints: bool | Literal["auto"] = "auto",
    finish_timeout_s: float = 15.0,
) -> RunWandbLogger:
    """A Weights & Biases logger that never asks for anything.

    Args:
        project: collects runs.
        save_dir: folder of the run; wandb's files go into its subfolder wandb/.
        name: shown for the run; None takes the name of `save_dir`.
        entity: user or team; None for the default of the account.
        offline: write the run to disk only; "auto" does so where this machine has no key, or cannot
            reach wandb.
        checkpoints: upload the best and the last one at the end; "auto" does so unless offline.
        finish_timeout_s: how long the end of a run waits for wandb to answer, checkpoints apart;
            above 0. What has not reached it is on the disk, for `wandb sync`.

    Raises:
        UserError: `offline` is False and there is no key, or `finish_timeout_s` is not above 0.
    """
    if finish_timeout_s <= 0:
        raise UserError(
            f"logger.wandb.finish_timeout_s={finish_timeout_s}: seconds above 0 are expected, such "
            f"as 15."
        )
    # wandb's process may have another working directory than ours, and lost runs without a word.
    folder = Path(save_dir).absolute()
    _leave_other_service()
    has_key = has_wandb_key()
    if offline is False and not has_key:
        raise UserError(
            "logger.wandb.offline=false: there is no key for wandb on this machine. Run "
            "`wandb login` or set WANDB_API_KEY; or give logger.wandb.offline=true."
        )
    # Whoever sets WANDB_MODE has decided already.
    keyless = offline == "auto" and not has_key and "WANDB_MODE" not in os.environ
    if keyless:
        _logger.info(
            "logger=wandb: there is no key on this machine, so the run is kept offline; later "
            "`wandb login` and `%s` upload it.",
            sync_command(folder),
        )
    return RunWandbLogger(
        folder,
        checkpoints=checkpoints,
        must_be_online=offline is False,
        finish_timeout_s=finish_timeout_s,
        project=project,
        name=name or folder.name,
        entity=entity,
        id=_run_id(folder),
        mode="offline" if keyless or offline is True else None,
    )


def _leave_other_service() -> None:
    """Have this process start a service of wandb for itself, where it would join another's.

    Children inherit the address of the one that their parent started. It ends with the parent, and
    the run with it; or has ended already, and then wandb refuses to start.
    """
    fields = os.environ.get(_SERVICE, "").split("-")
    if len(fields) > 1 and fields[1].isdigit() and int(fields[1]) != os.getpid():
        del os.environ[_SERVICE]


def has_wandb_key() -> bool:
    """Whether wandb would find credentials without asking: in the environment or a netrc file.

    wandb's own look-ups differ between versions, warn, or ask the network.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    files = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    own_server = os.environ.get("WANDB_BASE_URL", "").rpartition("//")[2].strip("/")
    return any(
        _WANDB_HOST in machine or machine == own_server
        for file in files
        for machine in _machines(file)
    )


def _machines(netrc_file: Path) -> list[str]:
    """Every machine that a netrc file has credentials for; none where it cannot be read."""
    try:
        return list(netrc.netrc(str(netrc_file)).hosts)
    except (OSError, netrc.NetrcParseError):
        return []


@rank_zero_only
def _run_id(folder: Path) -> str:
    """The id that the run in `folder` has had so far, or a new one."""
    file = folder / _ID_FILE
    if file.is_file() and (known := file.read_text(encoding="utf-8").strip()):
        return known
    fresh = secrets.token_hex(4)
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(fresh, encoding="utf-8")
    return fresh
