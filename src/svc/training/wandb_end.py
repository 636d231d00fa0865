"""How runs of wandb end: whole on the disk, and in limited time whatever becomes of the server."""

import contextlib
import logging
import shlex
import threading
import time
from pathlib import Path
from typing import Any

from svc.training.wandb_record import is_whole

_logger = logging.getLogger(__name__)

_WRITING_S, _LOOK_EVERY_S = 20.0, 0.02
"""How long to watch a run reach the disk, and how often to look; wandb writes every 15 s."""

UPLOAD_S = 3600
"""How long an upload may take to a server that answers; wandb itself tries for hours."""

ANSWER_S = 5
"""How long to wait for an answer; wandb's own 20 s are long where somebody has asked the run to
end."""


def end_run(run: Any, exit_code: int, timeout_s: float) -> None:
    """Close a run.

    wandb itself waits until everything is uploaded, which it tries for hours.

    Args:
        run: of wandb.
        exit_code: 0 for a run that ended well.
        timeout_s: how long an online run may go on uploading, or, where it ended well, go on
            without an answer from the server. Then its uploads are given up as soon as it is on the
            disk, and the log says how to upload it later.
    """
    folder = Path(run.dir).parent
    if run.offline:
        run.finish(exit_code=exit_code)
        _wait_for_end(folder)
    elif not _finishes(run, exit_code, timeout_s):
        _logger.warning(
            "logger=wandb: it does not answer, and the end of the run has not reached it; later "
            "`wandb sync --include-online %s` uploads its curves, sounds and pictures.",
            shlex.quote(str(folder)),
        )
        _reaches_disk(folder)
        _end_process()


def _finishes(run: Any, exit_code: int, timeout_s: float) -> bool:
    """Whether an online run closes in time.

    The setting finish_timeout of wandb counts from when its process comes to the end of the run,
    which a request that is tried again and again keeps it from.
    """
    done: list[bool] = []

    def finish() -> None:
        with contextlib.suppress(Exception):  # its process has ended, or is ended below
            run.finish(exit_code=exit_code)
            done.append(True)

    thread = threading.Thread(target=finish, name="end of the run on wandb", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if exit_code == 0:  # nobody has asked it to end
        give_up = time.monotonic() + UPLOAD_S
        while thread.is_alive() and time.monotonic() < give_up and _answers():
            thread.join(timeout_s)
    return bool(done)


def _answers() -> bool:
    """Whether the server can be asked something, so that the uploads are but slow."""
    import wandb

    try:
        return wandb.Api(timeout=ANSWER_S).viewer is not None
    except Exception:  # wandb's own have no common one
        return False


def _end_process() -> None:
    """End the process that wandb has started: when ours ends, wandb would wait for its uploads."""
    import wandb

    with contextlib.suppress(AttributeError):  # there is none
        process = wandb.setup()._connection._proc._process  # type: ignore[union-attr]
        process.kill()
        process.wait()
    with contextlib.suppress(Exception):  # it finds nobody to say goodbye to
        wandb.teardown()


def _wait_for_end(folder: Path) -> None:
    """Wait until an offline run is on the disk, all of it.

    wandb's own process writes it, and does not end its work before `finish` returns. Where ours
    ends first, which a busy machine sees to, the last 32 KiB are lost: in a short run, everything.
    """
    if _reaches_disk(folder):
        return
    if any(folder.glob("*.wandb")):
        import wandb

        with contextlib.suppress(SystemExit):  # of a process that did not end well
            wandb.teardown()  # returns when that process has ended
    if not _is_on_disk(folder):
        _logger.warning(
            "The end of wandb's offline run in %s is missing: its process could not write it. Is "
            "the disk full? The other loggers have the same metrics.",
            folder,
        )


def _reaches_disk(folder: Path) -> bool:
    """Wait until all of a run is on the disk, for as long as there is hope."""
    give_up = time.monotonic() + _WRITING_S
    while any(folder.glob("*.wandb")) and time.monotonic() < give_up:
        if _is_on_disk(folder):
            return True
        time.sleep(_LOOK_EVERY_S)
    return False


def _is_on_disk(folder: Path) -> bool:
    return any(is_whole(file) for file in folder.glob("*.wandb"))
