"""Checkpoint files that are either whole or not there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from safetensors.torch import save_file
from torch import Tensor

from svc.atomic_file import replace_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the destination and renames, so that a kill at any moment leaves the old file.

    Lightning's own writer stages in the system's temporary folder, from where a rename onto another
    disk is a copy that can be cut short, and holds the whole file in memory.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to the local file `path`.

        Raises:
            OSError: its folder cannot be written.
            RuntimeError: the disk is full, as torch's writer says it.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)

        def write(unfinished: Path) -> None:
            unfinished.open("wb").close()  # says why that cannot be; torch's writer would not
            torch.save(checkpoint, unfinished)

        replace_file(path, write)


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
