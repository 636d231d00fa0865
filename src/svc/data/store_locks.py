"""Who may prepare a store at the same time: one preparation of all of it, or any number of shards.

Both kinds go through the store's own lock. A preparation of everything holds it to its end, and
waits for the shards under way, each of which has a lock of its own; a shard holds it only while it
takes its own. The locks of a killed process are free. They are locks on files, so that on a shared
file system they hold between machines (NFS from version 4).
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LOG = logging.getLogger(__name__)

_STORE_LOCK = ".lock"
_SHARD_LOCK = ".shard-{}.lock"
_TURN_LOCK = ".turn.lock"


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Be the only process that looks whether a store is there, and makes it where it is not.

    Jobs of a sweep share a dataset: the first prepares it, the others wait, and find it done; or
    find it made with other settings than theirs, and leave it alone.
    """
    with _taken(FileLock(folder / _TURN_LOCK), folder, "Another process"):
        yield


@contextmanager
def sole_preparation(folder: Path) -> Iterator[None]:
    """Be the only preparation of a store, waiting for another one or for shards to end."""
    with _taken(FileLock(folder / _STORE_LOCK), folder, "Another process"), ExitStack() as shards:
        locks = sorted(folder.glob(_SHARD_LOCK.format("*")))
        for path in locks:
            shards.enter_context(_taken(FileLock(path), folder, _shard_of(path)))
        yield
        # Whoever waits for one of these looks again under the store's lock, which is held here.
        for path in locks:
            with suppress(OSError):  # Windows keeps what is open
                path.unlink()


@contextmanager
def one_of_many_preparations(folder: Path, shard: str) -> Iterator[None]:
    """Be the only preparation of a shard, waiting for one of the same shard or of everything.

    Args:
        folder: the store, which must exist.
        shard: its name, usable in the name of a file.
    """
    path = folder / _SHARD_LOCK.format(shard)
    while True:
        mine = FileLock(path)
        with _taken(FileLock(folder / _STORE_LOCK), folder, "Another process"):
            try:
                mine.acquire(timeout=0)
            except Timeout:
                pass
            else:
                break
        # Others must be able to start meanwhile; and the file may be another one afterwards.
        with _taken(mine, folder, _shard_of(path)):
            pass
    try:
        yield
    finally:
        mine.release()


@contextmanager
def _taken(lock: FileLock, folder: Path, holder: str) -> Iterator[None]:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _LOG.warning("%s is preparing %s now: waiting for it.", holder, folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _shard_of(lock: Path) -> str:
    _, _, name = lock.name.removesuffix(".lock").partition("-")
    return f"Shard {name}"
