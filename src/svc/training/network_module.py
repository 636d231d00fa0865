"""What our Lightning modules share: updates and their books, averages, metrics, checkpoints."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import CheckpointFacts
from svc.checkpoints.training_checkpoint import TrainingProgress, read_svc_state, write_svc_state
from svc.data.batch import Batch, CropPlaces, LoadedCrops
from svc.training.ema import ExponentialMovingAverage
from svc.training.metric_logging import log_metrics, logging_is_due
from svc.training.network_update import NetworkUpdate, UpdateResult
from svc.training.precision import AutocastOnly
from svc.training.randomness import step_seed
from svc.training.stopped import TrainingStopped

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]

SKIPPED_STEPS_LIMIT = 10
"""Steps in a row with a NaN or infinite loss or gradient, after which training stops."""


class NetworkModule(L.LightningModule):
    """Trains one network or several, each with its own optimiser, loss scale and schedule.

    A subclass computes losses and leaves gradients in the parameters; `update` does the rest.

    `global_step` counts the updates of the first network, the generator, only. Steps with a NaN or
    infinite loss or gradient are skipped and counted; after ten in a row `TrainingStopped` is
    raised (under fp16, steps that only lower the loss scale do not count for that). Every random
    number of a step depends on (seed, batches seen, rank) alone.

    Args:
        generator: trained; validation uses its moving average. What of it takes no gradients is
            neither averaged nor optimised.
        audio: framing and mel of the data.
        optimizer: parameters -> optimiser; called once per network.
        scheduler: optimiser -> schedule, stepped at every update; None keeps the learning rate.
        gradient_clip_norm: for each network.
        ema_decay: of the moving average, see `ExponentialMovingAverage`.
        accumulate_batches: batches whose gradients make one update; their mean counts.
        seed: of all random numbers in training and validation steps.
        facts: what a checkpoint says about itself; without them it cannot be used for conversion.

    Raises:
        ValueError: accumulate_batches is below 1.
    """

    networks: ClassVar[tuple[str, ...]] = ("generator",)
    """Attributes that hold the networks, in the order of their optimisers and schedules."""

    def __init__(
        self,
        generator: nn.Module,
        audio: AudioSpec,
        *,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None,
        gradient_clip_norm: float,
        ema_decay: float,
        accumulate_batches: int,
        seed: int,
        facts: CheckpointFacts | None,
    ) -> None:
        super().__init__()
        if accumulate_batches < 1:
            raise ValueError(f"accumulate_batches={accumulate_batches} must be at least 1")
        self.automatic_optimization = False
        self.generator = generator
        self.ema = ExponentialMovingAverage(generator, ema_decay)
        self.audio = audio
        self.gradient_clip_norm = gradient_clip_norm
        self.seed = seed
        self.facts = facts
        self.progress = TrainingProgress()
        self._accumulate_batches = accumulate_batches
        self._accumulated: list[dict[str, Tensor]] = []
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._skipped_in_a_row = 0
        self._updates: dict[str, NetworkUpdate] = {}

    # Set-up

    def setup(self, stage: str) -> None:
        """Prepare one update per network, for the precision that the trainer runs in."""
        plugin = self.trainer.precision_plugin
        if getattr(plugin, "scaler", None) is not None:
            raise ValueError(
                "This trainer scales the loss by itself, which several networks cannot share; make "
                "it with svc.training.trainer.build_trainer."
            )
        device_type = self.trainer.strategy.root_device.type
        scale_loss = isinstance(plugin, AutocastOnly) and plugin.precision == "16-mixed"
        arrive_averaged = getattr(self.trainer.strategy, "gradients_arrive_averaged", False)
        for name in self.networks:
            self._updates[name] = NetworkUpdate(
                self.gradient_clip_norm,
                device_type,
                scale_loss,
                average=self.trainer.world_size > 1 and not arrive_averaged,
            )

    def configure_optimizers(self) -> Any:
        """One optimiser, and schedule, per network."""
        optimizers = [self._optimizer(self._trainable(name)) for name in self.networks]
        if self._scheduler is None:
            return optimizers
        return optimizers, [self._scheduler(optimizer) for optimizer in optimizers]

    def transfer_batch_to_device(
        self, batch: Batch | LoadedCrops | CropPlaces, device: torch.device, dataloader_idx: int
    ) -> Batch | LoadedCrops | CropPlaces:
        """The batch on the device, copied in the background where its memory is pinned."""
        # An Apple GPU would read memory that is no longer the batch's (pytorch/pytorch#83015).
        return batch.to(device, non_blocking=device.type == "cuda")

    def _trainable(self, name: str) -> list[nn.Parameter]:
        network = cast(nn.Module, getattr(self, name))
        return [parameter for parameter in network.parameters() if parameter.requires_grad]

    # What a training step is made of

    @property
    def accumulate_batches(self) -> int:
        """Batches whose gradients make one update."""
        return self._accumulate_batches

    def let_every_part_take_part(self) -> None:
        """Make every step as demanding as the most demanding one of a run: for measuring what
        steps take, not for training. A subclass whose parts join later, or now and then, has them
        join in each."""

    def step_seed(self) -> int:
        """The seed of everything random in this training step."""
        return step_seed(self.seed, self.progress.batches_seen, self.trainer.global_rank)

    @property
    def update_is_due(self) -> bool:
        """Whether this batch completes the gradients of an update."""
        return len(self._accumulated) + 1 >= self._accumulate_batches

    @property
    def is_between_updates(self) -> bool:
        """Whether no gradients are waiting for further batches."""
        return not self._accumulated

    def scaled(self, name: str, loss: Tensor) -> Tensor:
        """A network's loss times its loss scale, to call backward on; its share of the mean where
        gradients are accumulated."""
        return self._updates[name].scale(loss / self._accumulate_batches)

    def gradients_are_complete(self, name: str, parameters: Sequence[nn.Parameter]) -> None:
        """Tell that gradients of some parameters will not change any more before the next update,
        so that a distributed run can send them."""
        if self.update_is_due:
            self._updates[name].complete(parameters)

    def update(self, name: str, loss: Tensor) -> UpdateResult | None:
        """One optimiser step of a network with the gradients that lie in its parameters; None
        where they are still being accumulated.

        Args:
            name: of `networks`.
            loss: unscaled scalar; only looked at.
        """
        if not self.update_is_due:
            return None
        index = self.networks.index(name)
        wrapper: LightningOptimizer = _listed(self.optimizers())[index]
        optimizer = wrapper.optimizer
        # Lightning counts the steps that are made through its wrapper.
        step = wrapper.step if index == 0 else optimizer.step
        result = self._updates[name].apply(loss, optimizer, step, self._everywhere)
        if result.applied:
            if index == 0:
                self.ema.update(self.generator)
            if self._scheduler is not None:
                _listed(self.lr_schedulers())[index].step()
        return result

    def close_step(
        self, metrics: Mapping[str, Tensor], results: Mapping[str, UpdateResult | None]
    ) -> None:
        """Log a step and keep its books; stops training where too many in a row came to nothing.

        Args:
            metrics: scalars of the step.
            results: of the networks' updates; holds the generator's.
        """
        made = {name: result for name, result in results.items() if result is not None}
        self._accumulated.append(dict(metrics))
        if made:
            norms = {f"grad_norm/{name}": result.gradient_norm for name, result in made.items()}
            self._log_training({**self._means(), **norms}, made["generator"].applied)
            self._accumulated.clear()
        self._count(list(made.values()))

    def _means(self) -> dict[str, Tensor]:
        """Of the metrics of the batches that made the update."""
        return {
            name: torch.stack([metrics[name] for metrics in self._accumulated]).mean(0)
            for name in self._accumulated[-1]
            if all(name in metrics for metrics in self._accumulated)
        }

    def _everywhere(self, decision: bool) -> bool:
        return self.trainer.strategy.reduce_boolean_decision(decision, all=True)

    def _count(self, results: Sequence[UpdateResult]) -> None:
        skipped = not all(result.applied for result in results)
        self.progress = replace(
            self.progress,
            batches_seen=self.progress.batches_seen + 1,
            skipped_steps=self.progress.skipped_steps + skipped,
        )
        if not results:
            return
        if not skipped:
            self._skipped_in_a_row = 0
        elif not all(result.applied or result.scale_overflow for result in results):
            self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= SKIPPED_STEPS_LIMIT:
            raise TrainingStopped(
                f"Losses or gradients were NaN or infinite in {SKIPPED_STEPS_LIMIT} steps in a "
                f"row, the last one after {self.global_step} generator updates; the weights were "
                f"left as they were before, and the last checkpoint is whole. Look at the last "
                f"losses logged; then lower the learning rate (optim.lr), use bf16 or fp32 instead "
                f"of fp16 (trainer), or check the recordings, and continue with resume=auto."
            )

    def _log_training(self, metrics: Mapping[str, Tensor], updated: bool) -> None:
        """Write metrics every so many updates; other steps do not wait for the device."""
        if not updated or not logging_is_due(self.trainer):
            return
        values = {name: float(value) for name, value in metrics.items()}
        values["skipped_steps"] = float(self.progress.skipped_steps)
        for name, optimizer in zip(self.networks, self.trainer.optimizers, strict=True):
            values[f"lr/{name}"] = float(optimizer.param_groups[0]["lr"])
            if self._updates[name].scaler.is_enabled():
                values[f"loss_scale/{name}"] = self._updates[name].scaler.get_scale()
        self.log_dict(values, logger=False)
        log_metrics(self.trainer, values, self.global_step)

    # Validation

    def log_validation(self, metrics: Mapping[str, Tensor]) -> None:
        """Metrics of a validation, under the number of updates so far."""
        self.log_dict(dict(metrics), logger=False)
        log_metrics(self.trainer, metrics, self.global_step)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resumed run or a conversion needs besides Lightning's own state."""
        scalers = {name: update.scaler.state_dict() for name, update in self._updates.items()}
        write_svc_state(checkpoint, self.facts, self.progress, scalers)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the books and the loss scales."""
        self.progress, scalers = read_svc_state(checkpoint)
        for name, update in self._updates.items():
            if update.scaler.is_enabled() and scalers.get(name):
                update.scaler.load_state_dict(scalers[name])


def _listed(one_or_several: Any) -> list[Any]:
    """Lightning returns the only optimiser, or schedule, by itself."""
    return one_or_several if isinstance(one_or_several, list) else [one_or_several]
