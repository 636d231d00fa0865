"""The tiny HiFiSinger or DiffSVC on several CPU processes, as a process of its own.

python distributed_training.py RUN_DIR OPTIONS, with OPTIONS as JSON:
    shares: how many batches make an update, over processes and accumulation together
    accumulate: how many of them in one process; 0 makes one large batch of all
    steps, r1_weight, precision
    scales: false leaves the discriminators with spectral norm out
Writes RUN_DIR/weights.pt and RUN_DIR/gradients.pt. Randomness within a step is taken out, so that
every way of dividing the same data must come to the same.
"""

import json
import os
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from tiny_training import make_batch, tiny_module, tiny_trainer
from torch import Tensor
from torch.utils.data import DataLoader

from svc.data.batch import Batch
from svc.models.sine_source import SineSource
from svc.training.adversary import AdversarialOptions
from svc.training.losses.weights import LossWeights
from svc.training.runs import fit


def no_randomness(self: SineSource, f0_hz: Tensor, rng: Any = None) -> tuple[Tensor, Tensor]:
    """In place of `SineSource.draw`."""
    batch, frames = f0_hz.shape
    return torch.zeros(batch, self.sines), torch.zeros(batch, 1, frames * self.hop_samples)


def joined(batches: list[Batch]) -> Batch:
    """One batch of several."""
    values = {f.name: torch.cat([getattr(b, f.name) for b in batches]) for f in fields(Batch)}
    return Batch(**values)


def first(batches: list[Batch]) -> Batch:
    return batches[0]


class Shares(lightning.LightningDataModule):
    """Update k sees the batches k * shares ... k * shares + shares - 1, whoever takes them."""

    def __init__(self, shares: int, whole: bool) -> None:
        super().__init__()
        self.shares, self.whole = shares, whole

    def train_dataloader(self) -> DataLoader[Batch]:
        count = 24 * self.shares
        batches = [make_batch(k) for k in range(count)]
        if self.whole:
            taken = [joined(batches[k : k + self.shares]) for k in range(0, count, self.shares)]
        else:
            taken = batches[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(taken, batch_size=1, collate_fn=first)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader([make_batch(900)], batch_size=1, collate_fn=first)  # type: ignore[arg-type]


def main() -> None:
    """Train and write what came of it."""
    torch.set_num_threads(1)
    run_dir, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    SineSource.draw = no_randomness  # type: ignore[method-assign]
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    accumulate = options["accumulate"] or 1
    module = tiny_module(
        # Adam would blow rounding up: it divides small gradients by their own size.
        optimizer=partial(torch.optim.SGD, lr=0.01, momentum=0.5),
        # The logarithm of an almost silent bin has a steep slope, which does so too.
        weights=LossWeights(mel=0.0, stft=0.0),
        accumulate_batches=accumulate,
        adversarial=AdversarialOptions(
            r1_weight=options.get("r1_weight", 0.0), r1_every_steps=accumulate
        ),
    )
    if not options.get("scales", True):
        # Spectral norm takes a step of its own at every batch, so that the number of them counts.
        module.discriminator.scales = None
    norms: list[dict[str, float]] = []
    close_step = module.close_step

    def recording(metrics: Any, results: Any) -> None:
        made = {name: float(r.gradient_norm) for name, r in results.items() if r is not None}
        if made:
            norms.append(made)
        close_step(metrics, results)

    module.close_step = recording  # type: ignore[method-assign]
    trainer = tiny_trainer(
        run_dir,
        options["steps"],
        devices=processes,
        precision=options.get("precision", "32-true"),
    )
    fit(trainer, module, Shares(options["shares"], whole=options["accumulate"] == 0))
    name = f"result_{trainer.global_rank}.pt"
    state = {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    torch.save({"weights": state, "norms": norms}, run_dir / name)


if __name__ == "__main__":
    main()
