"""Jobs in joblib's processes end with the command that launched them: saved, and not left behind.

Joblib kills its processes when it is interrupted, and leaves them to work on where its own is
killed, which then nobody watches over.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from svc.errors import EndedOnRequest

ENDING_FILE = ".ending"
"""In the folder of a sweep that was asked to end."""

_END_WITHIN_S = 30.0
"""After a signal, until joblib kills its processes."""

_LOOK_EVERY_S = 0.5
_ASK_EVERY_S = 5.0

_told: Callable[[], None] | None = None
"""Records of the job in this process that it was asked to end; None between jobs."""

_watched: int | None = None
"""The process that launches jobs, where this one is watching it."""


def end_jobs_first(folder: Path, under_way: Callable[[], bool]) -> None:
    """Have SIGTERM and Ctrl-C end the jobs before this process, which launches them.

    A second signal does not wait.

    Args:
        folder: of the sweep.
        under_way: whether jobs are running.
    """
    ending = folder / ENDING_FILE
    ending.unlink(missing_ok=True)
    numbers = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in numbers}

    def end(number: int, _: FrameType | None) -> None:
        for heard, handler in before.items():
            signal.signal(heard, handler)
        ending.touch()
        give_up = time.monotonic() + _END_WITHIN_S
        while under_way() and time.monotonic() < give_up:
            time.sleep(_LOOK_EVERY_S)
        if number == signal.SIGTERM:
            raise EndedOnRequest("asked to end (SIGTERM); jobs that were training have saved.")
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, end)


@contextmanager
def ending_with_launcher(folder: Path, tell: Callable[[], None]) -> Iterator[bool]:
    """Have a job asked to end, by SIGTERM, where its sweep was, or where the process that launched
    it is gone. Then this process ends with the job.

    Args:
        folder: of the sweep.
        tell: records that the job was asked to end, where it has nothing to save.

    Yields:
        Whether the job may begin.
    """
    global _told, _watched
    if _watched is None:
        _watched = os.getppid()
        threading.Thread(target=_watch, args=(folder, _watched), daemon=True).start()
    if _is_over(folder, _watched):
        yield False
        return
    _told = tell
    try:
        yield True
    finally:
        _told = None
        if os.getppid() != _watched:
            os._exit(1)  # nobody hears what comes of it, or gives it another job


def _is_over(folder: Path, launcher: int) -> bool:
    return os.getppid() != launcher or (folder / ENDING_FILE).exists()


def _watch(folder: Path, launcher: int) -> None:
    while not _is_over(folder, launcher):
        time.sleep(_LOOK_EVERY_S)
    while signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None):
        os.kill(os.getpid(), signal.SIGTERM)  # a training saves, and ends
        time.sleep(_ASK_EVERY_S)
    if _told is not None:
        _told()
    os._exit(1)
