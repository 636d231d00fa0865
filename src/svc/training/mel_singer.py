"""Training of models that predict a mel from noise: DiffSVC and FlowSVC."""

from typing import cast

import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import CheckpointFacts
from svc.data.batch import Batch
from svc.diffusion.samplers.base import Sampler
from svc.models.mel_singer import MelSinger
from svc.training.inputs import sample_mask
from svc.training.losses.mel import mel_l1_sums
from svc.training.network_module import NetworkModule, OptimizerFactory, SchedulerFactory
from svc.training.randomness import step_generator


class MelSingerModule(NetworkModule):
    """Trains a MelSinger; its vocoder only makes validation audible.

    Validation reports `valid_loss`, the training's loss with times and noises that are the same at
    every validation, and for the first batches, which are sampled and rendered, `valid_loss/mel`:
    the mel L1 that HiFiSinger reports, which can be compared between architectures.

    Args:
        generator: trained; validation uses its moving average.
        audio: framing and mel of the data.
        optimizer: parameters -> optimiser.
        scheduler: optimiser -> schedule, stepped at every update; None keeps the learning rate.
        sampler: of the mels in validation.
        sampled_batches: batches per validation that are sampled and rendered; each takes as long as
            `sampler.steps` evaluations of the loss.
        gradient_clip_norm: largest norm of all gradients together.
        ema_decay: of the moving average, see `ExponentialMovingAverage`.
        accumulate_batches: batches whose gradients make one update.
        seed: of all random numbers in training and validation steps.
        facts: what a checkpoint says about itself; without them it cannot be used for conversion.

    Raises:
        ValueError: sampled_batches is negative.
    """

    def __init__(
        self,
        generator: MelSinger,
        audio: AudioSpec,
        *,
        optimizer: OptimizerFactory,
        sampler: Sampler,
        scheduler: SchedulerFactory | None = None,
        sampled_batches: int = 2,
        gradient_clip_norm: float = 1.0,
        ema_decay: float = 0.999,
        accumulate_batches: int = 1,
        seed: int = 0,
        facts: CheckpointFacts | None = None,
    ) -> None:
        super().__init__(
            generator,
            audio,
            optimizer=optimizer,
            scheduler=scheduler,
            gradient_clip_norm=gradient_clip_norm,
            ema_decay=ema_decay,
            accumulate_batches=accumulate_batches,
            seed=seed,
            facts=facts,
        )
        if sampled_batches < 0:
            raise ValueError(f"sampled_batches={sampled_batches} must be 0 or more")
        self.sampler = sampler
        self.sampled_batches = sampled_batches
        self._valid_sums = torch.zeros(4)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One update from one batch."""
        rng = torch.Generator(self.device).manual_seed(self.step_seed())
        singer = cast(MelSinger, self.generator)
        loss = singer.loss(batch.conditioning(), batch.mel, batch.lengths_frames, rng=rng)
        self.manual_backward(self.scaled("generator", loss.total))
        result = self.update("generator", loss.total.detach())
        metrics = {f"train_loss/{name}": part for name, part in loss.parts.items()}
        metrics["train_loss"] = loss.total.detach()
        self.close_step(metrics, {"generator": result})

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the last validation."""
        self._valid_sums = torch.zeros(4, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The averaged model's loss; -> audio [B, 1, T] and mel [B, M, N] where it is sampled."""
        rng = step_generator(self.device, self.seed, batch_idx)
        conditioning, average = batch.conditioning(), cast(MelSinger, self.ema.network)
        loss = average.loss(conditioning, batch.mel, batch.lengths_frames, rng=rng)
        frames = batch.lengths_frames.sum().float()
        self._valid_sums[:2] += torch.stack([loss.total.float() * frames, frames])
        if batch_idx >= self.sampled_batches:
            return {}
        mel = average.predict_mel(conditioning, self.sampler, rng=rng)
        self._valid_sums[2:] += torch.stack(mel_l1_sums(mel, batch.mel, batch.lengths_frames))
        audio = average.render(mel, batch.f0_hz, batch.voiced, rng=rng)
        return {"audio": audio.float() * sample_mask(batch, self.audio), "mel": mel.float()}

    def on_validation_epoch_end(self) -> None:
        """Report the means over all frames of all processes."""
        loss, frames, mel, sampled = self.trainer.strategy.reduce(self._valid_sums, reduce_op="sum")
        metrics = {"valid_loss": loss / frames.clamp(min=1)}
        if self.sampled_batches:
            metrics["valid_loss/mel"] = mel / sampled.clamp(min=1)
        self.log_validation(metrics)
