"""Files that are either whole or not there."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file under another name, and put it in the place of `path` in one go.

    The unfinished file of a run that was killed is overwritten by the next, not left behind.
    """
    unfinished = _unfinished(path)
    try:
        write(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        remove_unfinished(path)  # what it takes up may be just what is wanting
        raise


def remove_unfinished(path: Path) -> None:
    """Remove what a killed `replace_file` of `path` has left behind, where that is possible."""
    with suppress(OSError):
        _unfinished(path).unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.unfinished")


def replace_text(path: Path, text: str) -> None:
    """Put a text in the place of `path` in one go."""
    replace_file(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
