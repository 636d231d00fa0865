"""Fetching a file of weights: resumed where it was cut, verified, and whole or not there.

Nothing here opens what a file holds; that is `svc.checkpoints.safe_reading`'s.
"""

import os
import time
from pathlib import Path

from svc.checkpoints.pinning import pin
from svc.checkpoints.registry import Weights
from svc.checkpoints.transfer import Cut, Partial, Refused, kept_bytes, transfer
from svc.errors import UserError
from svc.hashing import file_sha256

_ATTEMPTS = 5
"""Per address; each continues where the last one was cut."""


def fetch(weights: Weights, folder: Path, *, progress: bool = True, pause_s: float = 1.0) -> Path:
    """Download a file of weights into a folder, unless it is there.

    It appears under its own name only when it is whole and its hash is that which is published;
    until then it lies beside it as `NAME.partial`, from where a later call continues. The hash is
    pinned beside it (`svc.checkpoints.pinning`). Several processes that want the same file wait
    for one of them.

    Args:
        weights: what to fetch.
        folder: made where it is missing.
        progress: show a bar with the time left, on the standard error.
        pause_s: seconds before the second attempt at a cut transfer; doubled for each further one.

    Raises:
        UserError: no network, no address gives the file, it is not the published one, no space, or
            the folder cannot be written.
    """
    from filelock import FileLock

    target = folder / weights.file
    if not weights.addresses:
        raise UserError(f"{weights.name} is not fetched by svc: {weights.used_by}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{weights.file}.lock"):
            if not target.is_file():
                _fetch_from_any(weights, target, progress, pause_s)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written: {error.strerror or error}. Make room or name another "
            f"folder with SVC_CHECKPOINT_DIR."
        ) from error
    return target


def _fetch_from_any(weights: Weights, target: Path, progress: bool, pause_s: float) -> None:
    faults = []
    for address in weights.addresses:
        url = address.resolved()
        try:
            sha256 = _fetch_verified(weights, url, target, progress, pause_s)
        except (Refused, Cut) as fault:
            faults.append(f"{url}: {fault}")
            continue
        partial = Partial.beside(target)
        pin(partial.path, sha256, as_file=target, address=url)
        os.replace(partial.path, target)
        partial.remove()
        return
    tried = "".join(f"\n  - {fault}" for fault in faults)
    raise UserError(f"{weights.name} ({weights.file}) could not be downloaded:{tried}")


def _fetch_verified(
    weights: Weights, url: str, target: Path, progress: bool, pause_s: float
) -> str:
    """Leave the whole file as the partial one; -> its hash."""
    partial = Partial.beside(target)
    for attempt in range(2):
        continued = _transfer_patiently(weights, url, partial, progress, pause_s)
        sha256 = file_sha256(partial.path)
        if weights.accepts(sha256) is not False:
            return sha256
        size_bytes = partial.size_bytes()
        partial.remove()
        if attempt or not continued:
            break  # it came in one piece, so that another attempt would bring the same
    raise Refused(
        f"gives another file: its SHA-256 is {sha256} ({size_bytes} bytes), expected "
        f"{weights.expected_hash()}; it was thrown away"
    )


def _transfer_patiently(
    weights: Weights, url: str, partial: Partial, progress: bool, pause_s: float
) -> bool:
    """Transfer, continuing after cuts; -> whether the file is made of several pieces."""
    continued = kept_bytes(partial, url, weights) > 0
    attempts_left = _ATTEMPTS
    while True:
        before_bytes = partial.size_bytes()
        try:
            transfer(weights, url, partial, progress)
            return continued
        except Cut:
            continued = True
            attempts_left -= 1
            # A line that is cut now and then still gets there, as long as something arrives.
            if partial.size_bytes() > before_bytes:
                attempts_left = _ATTEMPTS - 1
            if not attempts_left:
                raise
            time.sleep(pause_s * 2 ** (_ATTEMPTS - 1 - attempts_left))
