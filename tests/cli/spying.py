"""A callback that writes down, in every process of a run, what the process saw and came to.

A run takes it with callbacks.spy._target_=cli.spying.Spy, where PYTHONPATH has the tests.
"""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from svc.data.batch import Batch
from svc.training.sharded_tensors import local_part, whole


class Spy(Callback):
    """Writes `folder/process_RANK.pt`.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.crops: list[list[float]] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Batch, _: int) -> None:
        """Every crop by a number that is most likely its own."""
        self.crops.append(batch.content.double().abs().sum((1, 2)).tolist())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, the weights put together where they are divided."""
        state = {k: v for k, v in pl_module.state_dict().items() if isinstance(v, Tensor)}
        found = {
            "crops": self.crops,
            "weights": {name: whole(value) for name, value in state.items()},
            "weight_bytes": sum(_bytes(value) for value in state.values()),
            "state_bytes": sum(
                _bytes(value)
                for optimizer in trainer.optimizers
                for values in optimizer.state.values()
                for value in values.values()
                if isinstance(value, Tensor)
            ),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(found, self.folder / f"process_{trainer.global_rank}.pt")


def _bytes(tensor: Tensor) -> int:
    held = local_part(tensor)
    return held.numel() * held.element_size()
