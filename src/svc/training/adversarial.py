"""The step of adversarial training that every generator of waveforms shares."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.batch import Batch
from svc.models.discriminators import Discriminators
from svc.training.adversary import AdversarialOptions, Verdict, consult
from svc.training.inputs import sample_mask
from svc.training.losses.gradient_penalty import r1_gradient_penalty
from svc.training.losses.mel import mel_l1_sums
from svc.training.losses.spectral import MultiResolutionSpectralLoss
from svc.training.losses.weights import LossWeights
from svc.training.network_module import NetworkModule
from svc.training.network_update import UpdateResult


@dataclass(frozen=True)
class Rendering:
    """What a generator made in a training step, and what it should have been."""

    audio: Tensor
    """[B, 1, T] generated, with its graph."""
    recorded: Tensor
    """[B, 1, T]."""
    mask: Tensor
    """[B, 1, T] fp32: 1 where a sample is real, 0 where it is padding."""
    losses: Mapping[str, Tensor]
    """Further parts of the generator's loss (names of `LossWeights`), with their graphs."""


class AdversarialModule(NetworkModule):
    """Trains a generator of waveforms against discriminators, each with its own optimiser.

    A step runs the generator once and the discriminators once on recordings and once on generated
    audio, and both updates draw on that:

        inputs -> generator -> audio | fake (a leaf) -> discriminators <- recordings
                                     |     `-> spectral losses

    The generator's gradient is taken at the leaf, which computes no gradient of a discriminator's
    weights and none on the recordings' side, and continues from there into the generator. The
    discriminators learn from the very same scores (`svc.training.adversary.consult`).

    Args:
        generator: see `NetworkModule`, as for the arguments that are not named here.
        discriminator: whose judges are consulted one by one.
        audio: framing and mel of the data.
        weights: of the parts of the generator's loss.
        adversarial: how the discriminators take part.
        spectral_loss: of the waveform; None for the default resolutions.
    """

    networks = ("generator", "discriminator")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: Discriminators,
        audio: AudioSpec,
        *,
        weights: LossWeights | None,
        adversarial: AdversarialOptions | None,
        spectral_loss: MultiResolutionSpectralLoss | None,
        **options: Any,
    ) -> None:
        super().__init__(generator, audio, **options)
        self.discriminator = discriminator
        self.mel = MelSpectrogram(audio)
        self.spectral_loss = spectral_loss or MultiResolutionSpectralLoss(audio)
        self.weights = weights or LossWeights()
        self.adversarial = adversarial or AdversarialOptions()

    def let_every_part_take_part(self) -> None:
        """The discriminators from the first step on, and their gradient penalty in each."""
        self.adversarial = replace(self.adversarial, start_step=0, r1_every_steps=1)

    def learn(self, rendering: Rendering) -> None:
        """Update the discriminators, then the generator, from one rendering."""
        real = rendering.recorded * rendering.mask
        fake = (rendering.audio.detach() * rendering.mask).requires_grad_()
        metrics: dict[str, Tensor] = {}
        results: dict[str, UpdateResult | None] = {}
        verdict = None
        if self.global_step >= self.adversarial.start_step:
            verdict = self._consult(real, fake)
            metrics, results["discriminator"] = self._update_discriminator(verdict, real)
        gen_metrics, results["generator"] = self._update_generator(rendering, fake, real, verdict)
        self.close_step({**metrics, **gen_metrics}, results)

    def _consult(self, real: Tensor, fake: Tensor) -> Verdict:
        """Both sides before the discriminators; leaves their gradients in their parameters."""
        return consult(
            self.discriminator.judges,
            real,
            fake,
            generator_loss=lambda adversarial, feature_matching: self.scaled(
                "generator",
                self.weights.total(
                    {"adversarial": adversarial, "feature_matching": feature_matching}
                ),
            ),
            learn=self._learn_discriminator,
        )

    def _learn_discriminator(self, loss: Tensor, parameters: list[nn.Parameter]) -> None:
        """Put the gradient of a discriminator's loss into its parameters."""
        # `inputs` spares the gradient with respect to the generated audio.
        self.manual_backward(self.scaled("discriminator", loss), inputs=parameters)
        if not self._penalty_is_due:
            self.gradients_are_complete("discriminator", parameters)

    @property
    def _penalty_is_due(self) -> bool:
        options = self.adversarial
        return options.r1_weight > 0 and self.progress.batches_seen % options.r1_every_steps == 0

    def _update_generator(
        self, rendering: Rendering, fake: Tensor, real: Tensor, verdict: Verdict | None
    ) -> tuple[dict[str, Tensor], UpdateResult | None]:
        """One step of the generator: from its losses to its weights and their average."""
        spectral = self.spectral_loss(fake, real)
        spectral_parts = {"mel": spectral.mel, "stft": spectral.stft}
        on_spectra = self.scaled("generator", self.weights.total(spectral_parts))
        (slope,) = torch.autograd.grad(on_spectra, fake)
        parts = {name: part.detach() for name, part in spectral_parts.items()}
        if verdict is not None:
            slope = slope + verdict.slope
            parts["adversarial"] = verdict.adversarial
            parts["feature_matching"] = verdict.feature_matching
        parts |= {name: part.detach() for name, part in rendering.losses.items()}
        # Its gradient is that of the whole loss; one scalar, because Lightning prepares
        # distributed backward passes from a scalar.
        scalar = (rendering.audio * rendering.mask * slope).sum(dtype=torch.float32)
        if rendering.losses:
            scalar = scalar + self.scaled("generator", self.weights.total(rendering.losses))
        self.manual_backward(scalar)

        loss = self.weights.total(parts)
        result = self.update("generator", loss)
        auxiliary = {name: parts[name] for name in (*spectral_parts, *rendering.losses)}
        metrics = {f"train_loss_gen/{name}": part for name, part in parts.items()}
        metrics["train_loss_gen"] = loss
        metrics["train_loss_aux"] = self.weights.total(auxiliary)
        return metrics, result

    def _update_discriminator(
        self, verdict: Verdict, real: Tensor
    ) -> tuple[dict[str, Tensor], UpdateResult | None]:
        """One step of the discriminators with the gradients of their verdict."""
        loss = verdict.discriminator_loss
        metrics = {"train_loss_disc": loss, "disc_accuracy": verdict.accuracy}
        options = self.adversarial
        if self._penalty_is_due:
            penalty = r1_gradient_penalty(lambda audio: self.discriminator(audio).scores, real)
            factor = options.r1_weight / 2 * options.r1_every_steps
            self.manual_backward(
                self.scaled("discriminator", factor * penalty),
                inputs=self._trainable("discriminator"),
            )
            loss = loss + penalty.detach()
            metrics["train_loss_disc/r1"] = penalty.detach()
        return metrics, self.update("discriminator", loss)

    def masked_mel_sums(self, audio: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of a validation: the sums of `mel_l1_sums` between the mels of `audio` [B, 1, T] and of
        the batch's, and the audio without what lies in padding."""
        mask = sample_mask(batch, self.audio)
        # The target's mel is made from the crop as well, so that both have the same edges.
        mel, target = (self.mel((signal * mask)[:, 0]) for signal in (audio, batch.audio))
        distance, frames = mel_l1_sums(mel, target, batch.lengths_frames)
        return distance, frames, audio.float() * mask
