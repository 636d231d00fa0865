"""FlowSVC: a rectified flow (Liu, Gong & Liu 2023) from a cheap first guess to the mel."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svc.diffusion.schedule import FlowPath
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


class FirstGuess(nn.Module):
    """A few convolutions from the conditioner's sequence to a blurred mel.

    Args:
        condition_channels: of the sequence.
        mel_bins: M.
        channels: of the layers between.
        layers: residual convolutions.
        kernel: of every convolution in frames, odd.
    """

    def __init__(
        self,
        condition_channels: int,
        mel_bins: int,
        channels: int = 256,
        layers: int = 3,
        kernel: int = 5,
    ) -> None:
        super().__init__()
        if layers < 0 or kernel % 2 == 0:
            raise ValueError(f"layers={layers} must be 0 or more, kernel={kernel} odd")
        self.condition_channels = condition_channels
        self.mel_bins = mel_bins
        self.receptive_frames = kernel // 2 * (layers + 1)
        self.input = nn.Conv1d(condition_channels, channels, kernel, padding=kernel // 2)
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=kernel // 2) for _ in range(layers)
        )
        self.output = nn.Conv1d(channels, mel_bins, 1)

    def forward(self, sequence: Tensor, mask: Tensor | None = None) -> Tensor:
        """sequence [B, condition_channels, N] and mask [B, 1, N], 1 for real frames, which see
        zeros beyond their end -> [B, M, N]."""
        if mask is not None:
            mask = mask.to(sequence.dtype)
        x = self.input(sequence if mask is None else sequence * mask)
        for layer in self.layers:
            hidden = F.gelu(x)
            x = x + layer(hidden if mask is None else hidden * mask)
        guess: Tensor = self.output(F.gelu(x))
        return guess


class FlowSvc(MelSinger):
    """Guesses the mel, adds noise, and follows a learned flow for the rest of the way.

    The flow leads from noise at time 0 to data at time 1, x_t = (1 - t) noise + t data. Sampling
    begins at `start_time` with the guess in place of the data, so only times from there on are
    trained (shallow diffusion, Liu et al. 2022, section 3.2, for a flow).

    Args:
        conditioner: inputs to a sequence.
        first_guess: sequence to mel.
        denoiser: predicts the flow's velocity, or the mel. It is told 1000 (1 - t) for the time t.
        scaling: of the mel that is sampled.
        vocoder: renders mels; frozen.
        start_time: 0 to below 1; 0 does without the guess.
        guess_gradient: factor of the gradient from the guess's loss into the conditioner, which is
            there for the denoiser in the first place.
        guess_weight: of the guess's loss, the L1 distance of the scaled mels.
        prediction: the velocity, or the clean mel, from which the velocity follows. A velocity lets
            all of the noise pass through the denoiser, which takes about four channels per mel bin;
            narrower ones learn the clean mel.
        loss: distance of the prediction and the truth. L2 alone makes the flow arrive at the
            distribution of the data.
        level_from_energy: sample the mel relative to the frame's energy; see `MelSinger`.

    Raises:
        ValueError: the widths of the parts differ, or a setting is out of range.
    """

    path = "flow"
    schedule: FlowPath

    def __init__(
        self,
        conditioner: Conditioner,
        first_guess: FirstGuess,
        denoiser: MelDenoiser,
        scaling: MelScaling,
        vocoder: Vocoder,
        start_time: float = 0.4,
        guess_gradient: float = 0.1,
        guess_weight: float = 0.5,
        prediction: Literal["velocity", "data"] = "velocity",
        loss: Distance = "l2",
        level_from_energy: bool = True,
    ) -> None:
        super().__init__(
            conditioner,
            denoiser,
            scaling,
            FlowPath(),
            vocoder,
            level_from_energy=level_from_energy,
        )
        widths = (first_guess.condition_channels, first_guess.mel_bins)
        if widths != (conditioner.channels, denoiser.mel_bins):
            raise ValueError(
                f"first_guess condition_channels={widths[0]} and mel_bins={widths[1]} must be the "
                f"conditioner's channels={conditioner.channels} and the denoiser's "
                f"mel_bins={denoiser.mel_bins}"
            )
        if not 0 <= start_time < 1:
            raise ValueError(f"start_time={start_time:g} must be at least 0 and below 1")
        if prediction not in ("velocity", "data"):
            raise ValueError(f"prediction={prediction!r} must be one of velocity, data")
        if loss not in get_args(Distance):
            raise ValueError(f"loss={loss!r} must be one of {', '.join(get_args(Distance))}")
        self.first_guess = first_guess
        self.start_time = start_time
        self.guess_gradient = guess_gradient
        self.guess_weight = guess_weight
        self.prediction = prediction
        self.distance = loss

    @property
    def receptive_frames(self) -> int:
        """See `MelSinger`; the guess comes before the denoiser."""
        return super().receptive_frames + self.first_guess.receptive_frames

    def loss(
        self,
        conditioning: Conditioning,
        mel: Tensor,
        lengths_frames: Tensor,
        rng: torch.Generator | None = None,
    ) -> MelLoss:
        """See `MelSinger`. One time for each item, from `start_time` to 1, all equally likely."""
        self.check_mel(conditioning, mel)
        data = self.scaled(mel, conditioning)
        where = drawn_on(rng, mel.device)
        share = torch.rand(len(mel), generator=rng, device=where).to(mel.device)
        noise = torch.randn(data.shape, generator=rng, device=where).to(mel.device)
        mask = real_frames(lengths_frames, mel.shape[-1])
        sequence = self.conditioner(without_padding(conditioning, mask))
        time = self.start_time + (1 - self.start_time) * share
        predicted = self.denoiser(
            self.schedule.noised(data, time, noise),
            denoiser_time(time),
            self.denoiser.prepare(sequence),
            mask,
        )
        is_data = self.prediction == "data"
        target = data if is_data else self.schedule.velocity(data, noise)
        flow = masked_distance(predicted, target, mask, self.distance)
        if self.start_time == 0:
            return MelLoss(flow, {"flow": flow.detach()})
        guessed = self.first_guess(scale_gradient(sequence, self.guess_gradient), mask)
        guess = masked_distance(guessed, data, mask, "l1")
        return MelLoss(
            flow + self.guess_weight * guess, {"flow": flow.detach(), "guess": guess.detach()}
        )

    def evaluate(self, x: Tensor, time: Tensor, prepared: Tensor) -> Tensor:
        """See `MelSinger`: the velocity."""
        predicted: Tensor = self.denoiser(x, denoiser_time(time), prepared).float()
        if self.prediction == "velocity":
            return predicted
        # Samplers never ask at time 1, where all of the way is behind.
        return (predicted - x) / (1 - time)[:, None, None]

    def start_from(
        self, sequence: Tensor, shallow: Tensor | None, shallow_steps: int | None
    ) -> tuple[Tensor | None, float | None]:
        """See `MelSinger`; without a given mel, the guess. Times before `start_time` were never
        trained, so more noise than belongs there is not asked for."""
        if shallow is not None and shallow_steps is not None:
            return shallow, max(1 - shallow_steps / self.noise_steps, self.start_time)
        if self.start_time == 0:
            return None, None
        return self.first_guess(sequence).float(), self.start_time


def denoiser_time(time: Tensor) -> Tensor:
    """Flow times [B] -> what the denoiser is told: 1000 for noise, 0 for data, so that its step
    embedding tells them apart as it does those of a diffusion."""
    return 1000 * (1 - time.float())


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x itself, bit by bit, but gradients through it come out times `factor`."""
    kept = x.detach()
    return kept + factor * (x - kept)
