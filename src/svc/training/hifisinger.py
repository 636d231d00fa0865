"""Adversarial training of HiFiSinger."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.checkpoints.training_checkpoint import (
    CheckpointFacts,
    TrainingProgress,
    read_svc_state,
    write_svc_state,
)
from svc.data.batch import Batch, LoadedCrops
from svc.models.discriminators import Discriminators
from svc.models.hifisinger import HifiSinger, SingerOutput
from svc.training.adversary import AdversarialOptions, Verdict, consult
from svc.training.ema import ExponentialMovingAverage
from svc.training.inputs import conditioning_of, rendered_frames, sample_mask
from svc.training.losses.gradient_penalty import r1_gradient_penalty
from svc.training.losses.mel import masked_mel_l1, mel_l1_sums
from svc.training.losses.spectral import MultiResolutionSpectralLoss, SpectralLosses
from svc.training.losses.weights import LossWeights
from svc.training.metric_logging import log_metrics, logging_is_due
from svc.training.network_update import NetworkUpdate, UpdateResult
from svc.training.precision import AutocastOnly
from svc.training.randomness import step_generator, step_seed
from svc.training.stopped import TrainingStopped

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]

NETWORKS = ("generator", "discriminator")
"""In the order of their optimisers and schedules."""

SKIPPED_STEPS_LIMIT = 10
"""Steps in a row with a NaN or infinite loss or gradient, after which training stops."""


class HifiSingerModule(L.LightningModule):
    """Trains a HiFiSinger against discriminators, each with its own optimiser.

    A step runs the generator once and the discriminators once on recordings and once on generated
    audio, and both updates draw on that:

        conditioning -> generator -> audio | fake (a leaf) -> discriminators <- recordings
                                           |     `-> spectral losses

    The generator's gradient is taken at the leaf, which computes no gradient of a discriminator's
    weights and none on the recordings' side, and continues from there into the generator. The
    discriminators learn from the very same scores (`svc.training.adversary.consult`).

    `global_step` counts generator updates only. Steps with a NaN or infinite loss or gradient are
    skipped and counted; after ten in a row `TrainingStopped` is raised (under fp16, steps that only
    lower the loss scale do not count for that). Every random number of a
    step depends on (seed, batches seen, rank) alone.

    Args:
        generator: trained; validation uses its moving average.
        discriminator: whose judges are consulted one by one.
        audio: framing and mel of the data.
        optimizer: parameters -> optimiser; called once per network.
        scheduler: optimiser -> schedule, stepped at every update; None keeps the learning rate.
        weights: of the parts of the generator's loss.
        adversarial: how the discriminators take part.
        spectral_loss: of the waveform; None for the default resolutions.
        gradient_clip_norm: for each network.
        ema_decay: of the moving average, see `ExponentialMovingAverage`.
        render_frames: length of the window of each crop that is rendered to a waveform and judged;
            None for all of it. The mel at the bottleneck always learns from the whole crop.
        seed: of all random numbers in training and validation steps.
        facts: what a checkpoint says about itself; without them it cannot be used for conversion.
    """

    def __init__(
        self,
        generator: HifiSinger,
        discriminator: Discriminators,
        audio: AudioSpec,
        *,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        weights: LossWeights | None = None,
        adversarial: AdversarialOptions | None = None,
        spectral_loss: MultiResolutionSpectralLoss | None = None,
        gradient_clip_norm: float = 0.5,
        ema_decay: float = 0.999,
        render_frames: int | None = None,
        seed: int = 0,
        facts: CheckpointFacts | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.ema = ExponentialMovingAverage(generator, ema_decay)
        self.mel = MelSpectrogram(audio)
        self.spectral_loss = spectral_loss or MultiResolutionSpectralLoss(audio)
        self.audio = audio
        self.weights = weights or LossWeights()
        self.adversarial = adversarial or AdversarialOptions()
        self.gradient_clip_norm = gradient_clip_norm
        self.render_frames = render_frames
        self.seed = seed
        self.facts = facts
        self.progress = TrainingProgress()
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._skipped_in_a_row = 0
        self._updates: dict[str, NetworkUpdate] = {}
        self._valid_sums = torch.zeros(3)

    # Set-up

    def setup(self, stage: str) -> None:
        """Prepare one update per network, for the precision that the trainer runs in."""
        plugin = self.trainer.precision_plugin
        if getattr(plugin, "scaler", None) is not None:
            raise ValueError(
                "This trainer scales the loss by itself, which two networks cannot share; make it "
                "with svc.training.trainer.build_trainer."
            )
        device_type = self.trainer.strategy.root_device.type
        scale_loss = isinstance(plugin, AutocastOnly) and plugin.precision == "16-mixed"
        for name in NETWORKS:
            network = cast(nn.Module, getattr(self, name))
            parameters = [p for p in network.parameters() if p.requires_grad]
            self._updates[name] = NetworkUpdate(
                parameters, self.gradient_clip_norm, device_type, scale_loss
            )

    def configure_optimizers(self) -> Any:
        """Generator first, discriminators second."""
        networks = (self.generator, self.discriminator)
        optimizers = [self._optimizer(network.parameters()) for network in networks]
        if self._scheduler is None:
            return optimizers
        return optimizers, [self._scheduler(optimizer) for optimizer in optimizers]

    def transfer_batch_to_device(
        self, batch: Batch | LoadedCrops, device: torch.device, dataloader_idx: int
    ) -> Batch | LoadedCrops:
        """The batch on the device, copied in the background where its memory is pinned."""
        return batch.to(device, non_blocking=True)

    # Training

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the discriminators, then the generator, from one batch."""
        seed = step_seed(self.seed, self.progress.batches_seen, self.trainer.global_rank)
        rng = torch.Generator(self.device).manual_seed(seed)
        rendered = rendered_frames(batch.content.shape[1], self.render_frames, seed)
        sung: SingerOutput = self.generator(conditioning_of(batch), rendered=rendered, rng=rng)
        hop = self.audio.hop_samples
        samples = slice(rendered.start * hop, rendered.stop * hop)
        mask = sample_mask(batch, self.audio)[..., samples]
        real = batch.audio[..., samples] * mask
        fake = (sung.audio.detach() * mask).requires_grad_()
        metrics: dict[str, Tensor] = {}
        results: list[UpdateResult] = []
        verdict = None
        if self.global_step >= self.adversarial.start_step:
            verdict = self._consult(real, fake)
            metrics, result = self._update_discriminator(verdict, real)
            results.append(result)
        spectral = self.spectral_loss(fake, real)
        gen_metrics, result = self._update_generator(sung, mask, fake, batch, spectral, verdict)
        results.append(result)
        self._log_training(metrics | gen_metrics, result.applied)
        self._count(results)

    def _consult(self, real: Tensor, fake: Tensor) -> Verdict:
        """Both sides before the discriminators; leaves their gradients in their parameters."""
        for_generator, for_discriminator = (self._updates[name] for name in NETWORKS)
        return consult(
            self.discriminator.judges,
            real,
            fake,
            generator_loss=lambda adversarial, feature_matching: for_generator.scale(
                self.weights.total(
                    {"adversarial": adversarial, "feature_matching": feature_matching}
                )
            ),
            # `inputs` spares the gradient with respect to the generated audio.
            learn=lambda loss, parameters: self.manual_backward(
                for_discriminator.scale(loss), inputs=parameters
            ),
        )

    def _update_generator(
        self,
        sung: SingerOutput,
        mask: Tensor,
        fake: Tensor,
        batch: Batch,
        spectral: SpectralLosses,
        verdict: Verdict | None,
    ) -> tuple[dict[str, Tensor], UpdateResult]:
        """One step of the generator: from its losses to its weights and their average."""
        update = self._updates["generator"]
        spectral_parts = {"mel": spectral.mel, "stft": spectral.stft}
        (slope,) = torch.autograd.grad(update.scale(self.weights.total(spectral_parts)), fake)
        parts = {name: part.detach() for name, part in spectral_parts.items()}
        if verdict is not None:
            slope = slope + verdict.slope
            parts["adversarial"] = verdict.adversarial
            parts["feature_matching"] = verdict.feature_matching
        bottleneck = masked_mel_l1(sung.mel, batch.mel, batch.lengths_frames)
        parts["bottleneck"] = bottleneck.detach()
        on_mel = self.weights.total({"bottleneck": bottleneck})
        # Its gradient is that of the whole loss; one scalar, because Lightning prepares
        # distributed backward passes from a scalar.
        on_waveform = (sung.audio * mask * slope).sum(dtype=torch.float32)
        self.manual_backward(on_waveform + update.scale(on_mel))

        wrapper = cast(list[LightningOptimizer], self.optimizers())[0]
        loss = self.weights.total(parts)
        result = update.apply(loss, wrapper.optimizer, wrapper.step, self._everywhere)
        if result.applied:
            self.ema.update(self.generator)
            self._step_schedule(0)
        metrics = {f"train_loss_gen/{name}": part for name, part in parts.items()}
        auxiliary = {name: parts[name] for name in ("mel", "stft", "bottleneck")}
        metrics["train_loss_gen"] = loss
        metrics["train_loss_aux"] = self.weights.total(auxiliary)
        metrics["grad_norm/generator"] = result.gradient_norm
        return metrics, result

    def _update_discriminator(
        self, verdict: Verdict, real: Tensor
    ) -> tuple[dict[str, Tensor], UpdateResult]:
        """One step of the discriminators with the gradients of their verdict."""
        update = self._updates["discriminator"]
        loss = verdict.discriminator_loss
        metrics = {"train_loss_disc": loss}
        options = self.adversarial
        if options.r1_weight > 0 and self.progress.batches_seen % options.r1_every_steps == 0:
            penalty = r1_gradient_penalty(lambda audio: self.discriminator(audio).scores, real)
            factor = options.r1_weight / 2 * options.r1_every_steps
            self.manual_backward(update.scale(factor * penalty), inputs=update.parameters)
            loss = loss + penalty.detach()
            metrics["train_loss_disc/r1"] = penalty.detach()

        # Not through Lightning's wrapper, which would count the step.
        optimizer = cast(list[LightningOptimizer], self.optimizers())[1].optimizer
        result = update.apply(loss, optimizer, optimizer.step, self._everywhere)
        if result.applied:
            self._step_schedule(1)
        metrics["grad_norm/discriminator"] = result.gradient_norm
        return metrics, result

    def _everywhere(self, decision: bool) -> bool:
        return self.trainer.strategy.reduce_boolean_decision(decision, all=True)

    def _step_schedule(self, index: int) -> None:
        if self._scheduler is not None:
            cast(list[LRScheduler], self.lr_schedulers())[index].step()

    def _count(self, results: Sequence[UpdateResult]) -> None:
        """Keep the books of a step, and stop where too many in a row came to nothing."""
        skipped = not all(result.applied for result in results)
        self.progress = replace(
            self.progress,
            batches_seen=self.progress.batches_seen + 1,
            skipped_steps=self.progress.skipped_steps + skipped,
        )
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

    def _log_training(self, metrics: dict[str, Tensor], updated: bool) -> None:
        """Write metrics every so many updates; other steps do not wait for the device."""
        if not updated or not logging_is_due(self.trainer):
            return
        values = {name: float(value) for name, value in metrics.items()}
        values["skipped_steps"] = float(self.progress.skipped_steps)
        for name, optimizer in zip(NETWORKS, self.trainer.optimizers, strict=True):
            values[f"lr/{name}"] = float(optimizer.param_groups[0]["lr"])
            if self._updates[name].scaler.is_enabled():
                values[f"loss_scale/{name}"] = self._updates[name].scaler.get_scale()
        self.log_dict(values, logger=False)
        log_metrics(self.trainer, values, self.global_step)

    # Validation

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the last validation."""
        self._valid_sums = torch.zeros(3, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Sing with the averaged generator; -> audio [B, 1, T] and mel [B, M, N] of the batch."""
        rng = step_generator(self.device, self.seed, batch_idx)
        sung: SingerOutput = self.ema.network(conditioning_of(batch), rng=rng)
        mask = sample_mask(batch, self.audio)
        mel = self.mel((sung.audio * mask)[:, 0])
        # The target's mel is made from the crop as well, so that both have the same edges.
        target = self.mel((batch.audio * mask)[:, 0])
        distance, frames = mel_l1_sums(mel, target, batch.lengths_frames)
        bottleneck, _ = mel_l1_sums(sung.mel, batch.mel, batch.lengths_frames)
        self._valid_sums += torch.stack([distance, bottleneck, frames])
        return {"audio": sung.audio.float() * mask, "mel": sung.mel.float()}

    def on_validation_epoch_end(self) -> None:
        """Report the mean distances over all frames of all processes."""
        distance, bottleneck, frames = self.trainer.strategy.reduce(
            self._valid_sums, reduce_op="sum"
        )
        metrics = {
            "valid_loss": distance / frames.clamp(min=1),
            "valid_loss/bottleneck": bottleneck / frames.clamp(min=1),
        }
        self.log_dict(metrics, logger=False)
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
