"""Adversarial training of a vocoder, from audio alone."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from svc.audio.mel import LOG_FLOOR
from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import CheckpointFacts
from svc.data.batch import Batch
from svc.errors import UserError
from svc.models.discriminators import Discriminators
from svc.training.adversarial import AdversarialModule, Rendering
from svc.training.adversary import AdversarialOptions
from svc.training.inputs import rendered_frames, sample_mask
from svc.training.losses.mel import frame_mask
from svc.training.losses.spectral import MultiResolutionSpectralLoss
from svc.training.losses.weights import LossWeights
from svc.training.network_module import OptimizerFactory, SchedulerFactory
from svc.training.pitch_decoupling import PitchDecoupling, mel_of_shifted_copy
from svc.training.randomness import step_generator

_COPY_MARGIN_FRAMES = 2
"""Rendered beyond both ends of a window, so that the mel of a copy sees real neighbours there."""


class VocoderModule(AdversarialModule):
    """Trains a vocoder to make a recording again from its mel, F0 and voicing.

    Other than in HiFiSinger's training the mel is the recording's own, so that nothing but audio
    and its pitch is needed, and there is no loss but that of the waveform.

    Args:
        generator: such as `NsfHifiGan`; validation uses its moving average.
        discriminator: whose judges are consulted one by one.
        audio: framing and mel of the data.
        optimizer: parameters -> optimiser; called once per network.
        scheduler: optimiser -> schedule, stepped at every update; None keeps the learning rate.
        weights: of the parts of the generator's loss.
        adversarial: how the discriminators take part.
        spectral_loss: of the waveform; None for the default resolutions.
        pitch_decoupling: practise F0 that is not the mel's; None for never.
        gradient_clip_norm: for each network.
        ema_decay: of the moving average, see `ExponentialMovingAverage`.
        accumulate_batches: batches whose gradients make one update.
        render_frames: length of the window of each crop that is rendered and judged; None for all.
        seed: of all random numbers in training and validation steps.
        facts: what a checkpoint says about itself; without them it cannot be used for rendering.

    Raises:
        UserError: the generator has no weights, or takes another mel.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: Discriminators,
        audio: AudioSpec,
        *,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        weights: LossWeights | None = None,
        adversarial: AdversarialOptions | None = None,
        spectral_loss: MultiResolutionSpectralLoss | None = None,
        pitch_decoupling: PitchDecoupling | None = None,
        gradient_clip_norm: float = 0.5,
        ema_decay: float = 0.999,
        accumulate_batches: int = 1,
        render_frames: int | None = None,
        seed: int = 0,
        facts: CheckpointFacts | None = None,
    ) -> None:
        _check_vocoder(generator, audio)
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
        self.pitch_decoupling = pitch_decoupling or PitchDecoupling()
        self.render_frames = render_frames
        self._valid_sums = torch.zeros(2)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the discriminators, then the generator, from one batch."""
        seed = self.step_seed()
        rng = torch.Generator(self.device).manual_seed(seed)
        rendered = rendered_frames(batch.f0_hz.shape[1], self.render_frames, seed)
        audio = self.generator(
            self._mel(batch, rendered, seed, rng),
            batch.f0_hz[:, rendered],
            batch.voiced[:, rendered],
            rng=rng,
        )
        hop = self.audio.hop_samples
        samples = slice(rendered.start * hop, rendered.stop * hop)
        mask = sample_mask(batch, self.audio)[..., samples]
        self.learn(Rendering(audio, batch.audio[..., samples], mask, losses={}))

    def _mel(self, batch: Batch, rendered: slice, seed: int, rng: torch.Generator) -> Tensor:
        """What the generator sees [B, M, N]: the recordings' mels, or those of shifted copies."""
        mel = batch.mel[..., rendered]
        chosen, semitones = self.pitch_decoupling.draw(len(mel), seed)
        if not chosen.any():
            return mel
        frames = batch.mel.shape[-1]
        start = max(0, rendered.start - _COPY_MARGIN_FRAMES)
        stop = min(frames, rendered.stop + _COPY_MARGIN_FRAMES)
        rows = chosen.nonzero()[:, 0].to(mel.device)
        copies = mel_of_shifted_copy(
            self.ema.network,
            self.mel,
            batch.mel[rows, :, start:stop],
            batch.f0_hz[rows, start:stop],
            batch.voiced[rows, start:stop],
            semitones[chosen],
            rng,
        )[..., rendered.start - start : rendered.stop - start]
        real = frame_mask(batch.lengths_frames[rows], frames)[:, None, rendered].bool()
        return mel.index_copy(0, rows, torch.where(real, copies, math.log(LOG_FLOOR)))

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the last validation."""
        self._valid_sums = torch.zeros(2, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Render with the averaged generator; -> audio [B, 1, T] of the batch."""
        rng = step_generator(self.device, self.seed, batch_idx)
        audio = self.ema.network(batch.mel, batch.f0_hz, batch.voiced, rng=rng)
        distance, frames, audio = self.masked_mel_sums(audio, batch)
        self._valid_sums += torch.stack([distance, frames])
        return {"audio": audio}

    def on_validation_epoch_end(self) -> None:
        """Report the mean distance over all frames of all processes."""
        distance, frames = self.trainer.strategy.reduce(self._valid_sums, reduce_op="sum")
        self.log_validation({"valid_loss": distance / frames.clamp(min=1)})


def _check_vocoder(generator: nn.Module, audio: AudioSpec) -> None:
    """Refuse what cannot learn, or not from this data."""
    if not any(parameter.requires_grad for parameter in generator.parameters()):
        raise UserError(
            f"{type(generator).__name__} has no weights that could be trained; choose another "
            f"vocoder, such as vocoder=nsf_hifigan."
        )
    taken: Any = (generator.mel_bins, generator.hop_samples)
    if taken != (audio.mel_bins, audio.hop_samples):
        raise UserError(
            f"The vocoder takes mels of {taken[0]} bins with a hop of {taken[1]}, and audio has "
            f"mel_bins={audio.mel_bins}, hop_samples={audio.hop_samples}; they must be equal."
        )
