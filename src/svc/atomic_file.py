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
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        write(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):  # what it takes up may be just what is wanting
            unfinished.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Put a text in the place of `path` in one go."""
    replace_file(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
