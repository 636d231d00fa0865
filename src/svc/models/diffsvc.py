"""DiffSVC: Gaussian diffusion over the mel (Liu et al. 2021), with a WaveNet denoiser."""

from typing import get_args

import torch
from torch import Tensor

from svc.diffusion.schedule import NoiseSchedule, Prediction
from svc.models.conditioner import Conditioner, Conditioning
from svc.models.denoiser import MelDenoiser
from svc.models.mel_loss import (
    Distance,
    MelLoss,
    drawn_on,
    masked_distance,
    real_frames,
    without_padding,
)
from svc.models.mel_scaling import MelScaling
from svc.models.mel_singer import MelSinger
from svc.models.vocoder import Vocoder


class DiffSvc(MelSinger):
    """Noise to mel in many small steps.

    Args:
        conditioner: inputs to a sequence.
        denoiser: takes the sequence as its condition.
        scaling: of the mel that is sampled.
        schedule: how the mel drowns in noise, step by step.
        vocoder: renders mels; frozen.
        prediction: what the denoiser says about a noisy mel: its noise, v, or the clean mel. Noise
            and v ask a denoiser to let all of the noise pass, which takes about four channels per
            mel bin; narrower ones learn the clean mel.
        loss: distance of the prediction and the truth.
        level_from_energy: sample the mel relative to the frame's energy; see `MelSinger`. The
            published models sample all of it.

    Raises:
        ValueError: the widths of the parts differ, or a choice is not one.
    """

    path = "diffusion"
    schedule: NoiseSchedule

    def __init__(
        self,
        conditioner: Conditioner,
        denoiser: MelDenoiser,
        scaling: MelScaling,
        schedule: NoiseSchedule,
        vocoder: Vocoder,
        prediction: Prediction = "noise",
        loss: Distance = "smooth_l1",
        level_from_energy: bool = True,
    ) -> None:
        super().__init__(
            conditioner,
            denoiser,
            scaling,
            schedule,
            vocoder,
            level_from_energy=level_from_energy,
        )
        for name, value, choices in (
            ("prediction", prediction, get_args(Prediction)),
            ("loss", loss, get_args(Distance)),
        ):
            if value not in choices:
                raise ValueError(f"{name}={value!r} must be one of {', '.join(choices)}")
        self.noise_steps = schedule.steps
        self.prediction = prediction
        self.distance = loss

    def loss(
        self,
        conditioning: Conditioning,
        mel: Tensor,
        lengths_frames: Tensor,
        rng: torch.Generator | None = None,
    ) -> MelLoss:
        """See `MelSinger`. One time for each item, all equally likely."""
        self.check_mel(conditioning, mel)
        data = self.scaled(mel, conditioning)
        where = drawn_on(rng, mel.device)
        time = torch.randint(self.schedule.steps, (len(mel),), generator=rng, device=where)
        noise = torch.randn(data.shape, generator=rng, device=where)
        mask = real_frames(lengths_frames, mel.shape[-1])
        sequence = self.conditioner(without_padding(conditioning, mask))
        total = self.loss_at(data, time.to(mel.device), noise.to(mel.device), sequence, mask)
        return MelLoss(total, {"diffusion": total.detach()})

    def loss_at(
        self, data: Tensor, time: Tensor, noise: Tensor, sequence: Tensor, mask: Tensor | None
    ) -> Tensor:
        """The loss for given random numbers.

        Args:
            data: [B, M, N], scaled.
            time: [B], steps from 0 to S - 1.
            noise: [B, M, N] standard normal.
            sequence: [B, C, N] from the conditioner.
            mask: [B, 1, N], 1 for real frames; None for all.
        """
        noisy = self.schedule.noised(data, time, noise)
        predicted = self.denoiser(noisy, time, self.denoiser.prepare(sequence), mask)
        target = noise
        if self.prediction == "v":
            target = self.schedule.v_target(data, time, noise)
        elif self.prediction == "data":
            target = data
        return masked_distance(predicted, target, mask, self.distance)

    def evaluate(self, x: Tensor, time: Tensor, prepared: Tensor) -> Tensor:
        """See `MelSinger`: the noise."""
        predicted: Tensor = self.denoiser(x, time, prepared).float()
        if self.prediction == "v":
            return self.schedule.noise_from_v(x, time, predicted)
        if self.prediction == "data":
            return self.schedule.noise_from_data(x, time, predicted)
        return predicted

    def start_from(
        self, sequence: Tensor, shallow: Tensor | None, shallow_steps: int | None
    ) -> tuple[Tensor | None, float | None]:
        """See `MelSinger`; the first step of noise is at time 0."""
        if shallow is None or shallow_steps is None:
            return None, None
        return shallow, shallow_steps - 1.0
