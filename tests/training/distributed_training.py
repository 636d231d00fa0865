"""The tiny HiFiSinger or DiffSVC on several CPU processes, as a process of its own.

python distributed_training.py RUN_DIR OPTIONS, with OPTIONS as JSON:
    shares: how many batches make an update, over processes and accumulation together
    accumulate: how many of them in one process; 0 makes one large batch of all
    steps, r1_weight, precision
    scales: false leaves the discriminators with spectral norm out
    arch: hifisinger (default), diffusion or flow; strategy: of build_trainer
    random: true keeps the randomness within a step, which is that of the process and batch, and
        takes AdamW
    lora: rank of low-rank updates; kept_rows: of the speaker table
    save_at: step after which RUN_DIR/then.ckpt is written
    from: checkpoint to continue; back_to: checkpoint to go back to when all is done
Writes RUN_DIR/result_RANK.pt. Randomness within a step is taken out where it is not wanted, so that
every way of dividing the same data must come to the same.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from svc.data.batch import Batch
from svc.models.conditioner import Conditioning
from svc.models.diffsvc import DiffSvc
from svc.models.mel_loss import MelLoss
from svc.models.sine_source import SineSource
from svc.training.adversary import AdversarialOptions
from svc.training.callbacks.alarms import go_back
from svc.training.finetuning import KeepSpeakerRows, learn_by_lora
from svc.training.losses.weights import LossWeights
from svc.training.runs import fit
from svc.training.sharded_tensors import local_part, whole
from training import tiny_mel_singer
from training.tiny_training import make_batch, tiny_module, tiny_trainer


def no_randomness(self: SineSource, f0_hz: Tensor, rng: Any = None) -> tuple[Tensor, Tensor]:
    """In place of `SineSource.draw`."""
    batch, frames = f0_hz.shape
    return torch.zeros(batch, self.sines), torch.zeros(batch, 1, frames * self.hop_samples)


def loss_without_randomness(
    self: DiffSvc, conditioning: Conditioning, mel: Tensor, lengths_frames: Tensor, rng: Any = None
) -> MelLoss:
    """In place of `DiffSvc.loss`, of crops without padding."""
    data = self.scaled(mel, conditioning)
    time = (1000 * data[:, 0, 0].abs()).long() % self.schedule.steps
    total = self.loss_at(data, time, torch.sin(1e3 * data), self.conditioner(conditioning), None)
    return MelLoss(total, {"diffusion": total.detach()})


def joined(batches: list[Batch]) -> Batch:
    """One batch of several."""
    values = {f.name: torch.cat([getattr(b, f.name) for b in batches]) for f in fields(Batch)}
    return Batch(**values)


def first(batches: list[Batch]) -> Batch:
    return batches[0]


class Later(Sampler[int]):
    """Goes on where a run was stopped; its length is that of the whole."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.count = first, count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.count))

    def __len__(self) -> int:
        return self.count


class Shares(lightning.LightningDataModule):
    """Update k sees the batches k * shares ... k * shares + shares - 1, whoever takes them."""

    def __init__(self, shares: int, whole: bool) -> None:
        super().__init__()
        self.shares, self.whole = shares, whole
        self.first = 0

    def state_dict(self) -> dict[str, Any]:
        return {"batches_seen": self.trainer.lightning_module.progress.batches_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.first = state_dict["batches_seen"]

    def train_dataloader(self) -> DataLoader[Batch]:
        count = 24 * self.shares
        batches = [make_batch(k) for k in range(count)]
        if self.whole:
            taken = [joined(batches[k : k + self.shares]) for k in range(0, count, self.shares)]
        else:
            taken = batches[self.trainer.global_rank :: self.trainer.world_size]
        order = Later(self.first, len(taken))
        return DataLoader(taken, sampler=order, collate_fn=first)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader([make_batch(900)], batch_size=1, collate_fn=first)  # type: ignore[arg-type]


def module_of(options: dict[str, Any]) -> Any:
    """The module to train."""
    accumulate = options["accumulate"] or 1
    chosen: dict[str, Any] = {"accumulate_batches": accumulate}
    if not options.get("random"):
        # Adam would blow rounding up: it divides small gradients by their own size.
        chosen["optimizer"] = partial(torch.optim.SGD, lr=0.01, momentum=0.5)
    if options.get("arch", "hifisinger") != "hifisinger":
        singer = tiny_mel_singer.tiny_singer(options["arch"])
        if "lora" in options:
            learn_by_lora(singer, options["lora"], None, ["conditioner", "denoiser"])
        return tiny_mel_singer.tiny_module(options["arch"], singer, **chosen)
    module = tiny_module(
        **chosen,
        # The logarithm of an almost silent bin has a steep slope, which does so too.
        weights=LossWeights(mel=0.0, stft=0.0),
        adversarial=AdversarialOptions(
            r1_weight=options.get("r1_weight", 0.0), r1_every_steps=accumulate
        ),
    )
    if not options.get("scales", True):
        # Spectral norm takes a step of its own at every batch, so that the number of them counts.
        module.discriminator.scales = None
    return module


class SaveThen(Callback):
    """Writes a checkpoint after one step."""

    def __init__(self, path: Path, step: int | None) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


class Traffic:
    """Counts exchanges between the processes, by their kind."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        for name in ("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor"):
            setattr(torch.distributed, name, self._counting(name, getattr(torch.distributed, name)))

    def _counting(self, name: str, exchange: Any) -> Any:
        def counting(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            return exchange(*arguments, **options)

        return counting


def held(module: Any, optimizer: Any) -> dict[str, int]:
    """How many numbers this process holds."""
    states = [v for state in optimizer.state.values() for v in state.values()]
    return {
        "weights": sum(local_part(p).numel() for p in module.generator.parameters()),
        "average": sum(
            local_part(p).numel()
            for p, q in zip(
                module.ema.network.parameters(), module.generator.parameters(), strict=True
            )
            if q.requires_grad
        ),
        "states": sum(local_part(v).numel() for v in states if isinstance(v, Tensor)),
    }


def main() -> None:
    """Train and write what came of it."""
    torch.set_num_threads(1)
    run_dir, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    if not options.get("random"):
        SineSource.draw = no_randomness  # type: ignore[method-assign]
        DiffSvc.loss = loss_without_randomness  # type: ignore[method-assign]
    module, traffic = module_of(options), Traffic()
    norms: list[dict[str, float]] = []
    close_step = module.close_step

    def recording(metrics: Any, results: Any) -> None:
        made = {name: float(r.gradient_norm) for name, r in results.items() if r is not None}
        if made:
            norms.append(made)
        close_step(metrics, results)

    module.close_step = recording
    trainer = tiny_trainer(
        run_dir,
        options["steps"],
        [
            SaveThen(run_dir / "then.ckpt", options.get("save_at")),
            KeepSpeakerRows(options.get("kept_rows", [])),
        ],
        validate_every_steps=options.get("validate_every_steps", 3),
        devices=int(os.environ.get("WORLD_SIZE", "1")),
        strategy=options.get("strategy", "auto"),
        precision=options.get("precision", "32-true"),
    )
    resume_from = Path(options["from"]) if "from" in options else None
    data = Shares(options["shares"], whole=options["accumulate"] == 0)
    fit(trainer, module, data, resume_from)
    result = {
        "weights": weights_of(module),
        "norms": norms,
        "held": held(module, trainer.optimizers[0]),
        "calls": dict(traffic.calls),
        "skipped": module.progress.skipped_steps,
    }
    if "back_to" in options:
        go_back(trainer, module, Path(options["back_to"]), 0.5)
        result["back"] = weights_of(module)
    torch.save(result, run_dir / f"result_{trainer.global_rank}.pt")


def weights_of(module: Any) -> dict[str, Tensor]:
    """Everything that a module holds, whole."""
    return {
        name: whole(value)
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor)
    }


if __name__ == "__main__":
    main()
