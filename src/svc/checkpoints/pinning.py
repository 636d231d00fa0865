"""The hash of a file of weights, remembered beside it so that a change is noticed."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from svc.checkpoints.registry import Weights
from svc.errors import UserError
from svc.hashing import file_sha256

_logger = logging.getLogger(__name__)


def pin_path(path: Path) -> Path:
    """Where the hash of a file is remembered."""
    return path.with_name(f"{path.name}.pinned.json")


def pin(
    path: Path, sha256: str, *, as_file: Path | None = None, address: str | None = None
) -> None:
    """Remember the hash of a file, with the size and time that tell whether it was touched since.

    A folder that cannot be written to keeps no pins; files in it are read at each use instead.

    Args:
        path: the file.
        sha256: its hash.
        as_file: the name that it is about to get, where that is another.
        address: where it came from.
    """
    facts = path.stat()
    pinned = {
        "sha256": sha256,
        "size_bytes": facts.st_size,
        "modified_ns": facts.st_mtime_ns,
        "address": address,
    }
    place = pin_path(as_file or path)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(pinned, indent=1) + "\n", encoding="utf-8")
        os.replace(unfinished, place)
    except OSError as error:
        _logger.debug("%s is not pinned: %s", path, error)


def require_intact(weights: Weights, path: Path) -> None:
    """Refuse a file that is not the published one, or not the one that was first seen.

    A file that has neither a published nor a pinned hash is pinned now. One whose size and time are
    those of its pin is not read again.

    Raises:
        UserError: naming the hash that was expected and the one that was found.
    """
    facts, pinned = path.stat(), _pinned(path)
    seen = {"size_bytes": facts.st_size, "modified_ns": facts.st_mtime_ns}
    known = pinned.get("sha256")
    if known and seen.items() <= pinned.items() and weights.accepts(known) is not False:
        return
    sha256 = file_sha256(path)
    published = weights.accepts(sha256)
    if published is False:
        raise _not_expected(weights, path, sha256, f"{weights.expected_hash()} (as published)")
    if published is None and known not in (None, sha256):
        raise _not_expected(
            weights, path, sha256, f"{known} (as at its first use, in {pin_path(path).name})"
        )
    if published is None and known is None:
        _logger.info("No hash of %s is published; %s is pinned from now on.", path.name, sha256)
    pin(path, sha256, address=pinned.get("address"))


def _pinned(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(pin_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _not_expected(weights: Weights, path: Path, sha256: str, expected: str) -> UserError:
    return UserError(
        f"{path} is not the file that {weights.name} stands for: its SHA-256 is {sha256} "
        f"({path.stat().st_size} bytes), expected {expected}. Remove it, so that it can be fetched "
        f"again (svc-download {weights.name}), or put the right file there ({weights.source})."
    )
