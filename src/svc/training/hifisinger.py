"""Adversarial training of HiFiSinger."""

import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import CheckpointFacts
from svc.data.batch import Batch
from svc.models.discriminators import Discriminators
from svc.models.hifisinger import HifiSinger, SingerOutput
from svc.training.adversarial import AdversarialModule, Rendering
from svc.training.adversary import AdversarialOptions
from svc.training.inputs import rendered_frames, sample_mask
from svc.training.losses.mel import masked_mel_l1, mel_l1_sums
from svc.training.losses.spectral import MultiResolutionSpectralLoss
from svc.training.losses.weights import LossWeights
from svc.training.network_module import OptimizerFactory, SchedulerFactory
from svc.training.randomness import step_generator


class HifiSingerModule(AdversarialModule):
    """Trains a HiFiSinger: its waveform against discriminators, its bottleneck, where it has one,
    towards the mel.

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
        accumulate_batches: batches whose gradients make one update.
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
        accumulate_batches: int = 1,
        render_frames: int | None = None,
        seed: int = 0,
        facts: CheckpointFacts | None = None,
    ) -> None:
        super().__init__(
            generator,
            discriminator,
            audio,
            weights=weights,
            adversarial=adversarial,
            spectral_loss=spectral_loss,
            optimizer=optimizer,
            scheduler=scheduler,
            gradient_clip_norm=gradient_clip_norm,
            ema_decay=ema_decay,
            accumulate_batches=accumulate_batches,
            seed=seed,
            facts=facts,
        )
        self.render_frames = render_frames
        self._valid_sums = torch.zeros(3)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the discriminators, then the generator, from one batch."""
        seed = self.step_seed()
        rng = torch.Generator(self.device).manual_seed(seed)
        rendered = rendered_frames(batch.content.shape[1], self.render_frames, seed)
        sung: SingerOutput = self.generator(batch.conditioning(), rendered=rendered, rng=rng)
        hop = self.audio.hop_samples
        samples = slice(rendered.start * hop, rendered.stop * hop)
        losses = {}
        if sung.mel is not None:
            losses["bottleneck"] = masked_mel_l1(sung.mel, batch.mel, batch.lengths_frames)
        self.learn(
            Rendering(
                audio=sung.audio,
                recorded=batch.audio[..., samples],
                mask=sample_mask(batch, self.audio)[..., samples],
                losses=losses,
            )
        )

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the last validation."""
        self._valid_sums = torch.zeros(3, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Sing with the averaged generator; -> audio [B, 1, T] of the batch, and mel [B, M, N]
        where the model has one."""
        rng = step_generator(self.device, self.seed, batch_idx)
        sung: SingerOutput = self.ema.network(batch.conditioning(), rng=rng)
        distance, frames, audio = self.masked_mel_sums(sung.audio, batch)
        if sung.mel is None:
            self._valid_sums += torch.stack([distance, torch.zeros_like(distance), frames])
            return {"audio": audio}
        bottleneck, _ = mel_l1_sums(sung.mel, batch.mel, batch.lengths_frames)
        self._valid_sums += torch.stack([distance, bottleneck, frames])
        return {"audio": audio, "mel": sung.mel.float()}

    def on_validation_epoch_end(self) -> None:
        """Report the mean distances over all frames of all processes."""
        distance, bottleneck, frames = self.trainer.strategy.reduce(
            self._valid_sums, reduce_op="sum"
        )
        frames = frames.clamp(min=1)
        metrics = {"valid_loss": distance / frames}
        if self.generator.has_mel:
            metrics["valid_loss/bottleneck"] = bottleneck / frames
        self.log_validation(metrics)
