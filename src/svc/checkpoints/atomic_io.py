"""Checkpoint files that are either whole or not there."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from safetensors.torch import save_file
from torch import Tensor


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the destination and renames, so that a kill at any moment leaves the old file.

    Lightning's own writer stages in the system's temporary folder, from where a rename onto another
    disk is a copy that can be cut short, and holds the whole file in memory.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to the local file `path`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda unfinished: torch.save(checkpoint, unfinished))


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


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Put tensors and what is said about them into one file, whole or not at all."""

    def write(unfinished: Path) -> None:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        save_file(dict(tensors), unfinished, dict(metadata))
        unfinished.chmod(mode)  # the library keeps its files from everybody else

    replace_file(path, write)
