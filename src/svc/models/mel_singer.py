"""What singers that sample a mel and leave the waveform to a vocoder have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from svc.diffusion.samplers.base import Sampler
from svc.diffusion.sampling import initial_noise, sample
from svc.diffusion.schedule import FlowPath, NoiseSchedule
from svc.models.conditioner import Conditioner, Conditioning
from svc.models.denoiser import MelDenoiser
from svc.models.mel_level import energy_level
from svc.models.mel_loss import MelLoss
from svc.models.mel_scaling import MelScaling
from svc.models.sine_source import Randomness
from svc.models.vocoder import Vocoder


class MelSinger(nn.Module, ABC):
    """Conditioner, denoiser and a frozen vocoder.

    Args:
        conditioner: inputs to a sequence.
        denoiser: takes the sequence as its condition.
        scaling: of the mel that is sampled.
        schedule: from data to noise.
        vocoder: renders mels; frozen, and only kept beside the rest.
        level_from_energy: sample the mel relative to the frame's energy, and not its level as
            well; see `HifiSinger`. The bounds of `scaling` are then those of the relative mel.

    Raises:
        ValueError: the widths of the parts differ, or there is no energy to take levels from.
    """

    path: ClassVar[Literal["diffusion", "flow"]]
    """Which samplers fit."""
    noise_steps: int = 1000
    """Steps from a clean mel to noise, as `shallow_steps` counts them."""

    def __init__(
        self,
        conditioner: Conditioner,
        denoiser: MelDenoiser,
        scaling: MelScaling,
        schedule: NoiseSchedule | FlowPath,
        vocoder: Vocoder,
        *,
        level_from_energy: bool,
    ) -> None:
        super().__init__()
        if denoiser.condition_channels != conditioner.channels:
            raise ValueError(
                f"the denoiser's condition_channels={denoiser.condition_channels} must be the "
                f"conditioner's channels={conditioner.channels}"
            )
        if level_from_energy and conditioner.energy is None:
            raise ValueError(
                "level_from_energy needs a conditioner with use_energy; set both or neither"
            )
        self.conditioner = conditioner
        self.denoiser = denoiser
        self.scaling = scaling
        self.schedule = schedule
        self.level_from_energy = level_from_energy
        self.mel_bins = denoiser.mel_bins
        self.replace_vocoder(vocoder)

    @property
    def receptive_frames(self) -> int:
        """Frames of context on each side that one evaluation and the vocoder can see. (A frame
        reaches a little further with every further evaluation, with ever less influence.)"""
        frames: int = (
            self.conditioner.receptive_frames
            + self.denoiser.receptive_frames
            + self.vocoder.receptive_frames
        )
        return frames

    @abstractmethod
    def loss(
        self,
        conditioning: Conditioning,
        mel: Tensor,
        lengths_frames: Tensor,
        rng: torch.Generator | None = None,
    ) -> MelLoss:
        """What a training step minimises. Padding takes no part in it.

        Args:
            conditioning: N frames.
            mel: [B, M, N] natural log.
            lengths_frames: [B], frames that are not padding, 0 to N.
            rng: of times and noise; None for fresh numbers.

        Raises:
            ValueError: a shape is wrong.
        """

    @abstractmethod
    def evaluate(self, x: Tensor, time: Tensor, prepared: Tensor) -> Tensor:
        """One evaluation for a sampler: what it is fed with, from x [B, M, N] at the sampler's
        time [B] and the prepared condition -> [B, M, N] float32."""

    @abstractmethod
    def start_from(
        self, sequence: Tensor, shallow: Tensor | None, shallow_steps: int | None
    ) -> tuple[Tensor | None, float | None]:
        """The scaled mel to add noise to, [B, M, N], and the time to begin at; None and None for
        pure noise. `shallow` is the scaled mel that is given, `shallow_steps` in range."""

    @torch.no_grad()
    def predict_mel(
        self,
        conditioning: Conditioning,
        sampler: Sampler,
        *,
        noise: Tensor | None = None,
        step_noise: Tensor | None = None,
        rng: torch.Generator | None = None,
        shallow_mel: Tensor | None = None,
        shallow_steps: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Samples a mel. Networks run in the precision of the caller's autocast, everything
        between them in float32.

        Args:
            conditioning: N frames; with none, the mel has none.
            sampler: of this singer's path.
            noise: [B, M, N] standard normal to begin with, instead of fresh noise.
            step_noise: [evaluations, B, M, N] for ancestral samplers, instead of fresh noise.
            rng: of fresh noise; None for numbers that differ every time.
            shallow_mel: [B, M, N] natural log, to be refined instead of beginning with noise alone.
            shallow_steps: how noisy it is made first, 0 (it is returned as it is) to `noise_steps`
                (nothing of it is left).
            progress: told after every evaluation how many are done, and of how many.

        Returns:
            [B, M, N] natural log, float32.

        Raises:
            ValueError: a shape is wrong, an input is not finite, or only one of `shallow_mel` and
                `shallow_steps` is given.
            UserError: the sampler is for another kind of model.
        """
        check_finite(conditioning)
        shallow = self._checked_shallow(conditioning, shallow_mel, shallow_steps)
        shape = (conditioning.content.shape[0], self.mel_bins, conditioning.frames)
        if conditioning.frames == 0:
            return conditioning.content.new_zeros(shape, dtype=torch.float32)
        sequence: Tensor = self.conditioner(conditioning)
        begin, start = self.start_from(sequence, shallow, shallow_steps)
        sampler.set_steps(self.schedule, start)
        if noise is None:
            noise = initial_noise(shape, rng, sampler.temperature, sequence.device)
        elif noise.shape != shape:
            raise ValueError(f"noise {list(noise.shape)} must be {list(shape)}")
        if begin is not None and start is not None:
            times = torch.full((shape[0],), start, device=sequence.device)
            noise = self.schedule.noised(begin, times, noise)
        with self.denoiser.backbone.inference_weights.kept():
            prepared = self.denoiser.prepare(sequence)
            scaled = sample(
                sampler,
                lambda x, time: self.evaluate(x, time, prepared),
                noise,
                rng=rng,
                step_noise=step_noise,
                progress=progress,
            )
        return self.unscaled(scaled, conditioning)

    def render(
        self,
        mel: Tensor,
        f0_hz: Tensor,
        voiced: Tensor,
        *,
        source: Tensor | None = None,
        rng: Randomness = None,
    ) -> Tensor:
        """mel [B, M, N] natural log, f0_hz [B, N], voiced [B, N] bool -> [B, 1, N * hop_samples],
        through the vocoder.

        Raises:
            ValueError: a shape is wrong.
        """
        if mel.ndim == 3 and mel.shape[-1] == 0:
            return mel.new_zeros(mel.shape[0], 1, 0)
        audio: Tensor = self.vocoder(mel, f0_hz, voiced, source=source, rng=rng)
        return audio

    def scaled(self, mel: Tensor, conditioning: Conditioning) -> Tensor:
        """[B, M, N] natural log -> what is sampled, about -1 to 1."""
        return self.scaling.normalise(self.relative(mel, conditioning))

    def unscaled(self, scaled: Tensor, conditioning: Conditioning) -> Tensor:
        """The way back."""
        mel = self.scaling.denormalise(scaled)
        return mel + energy_level(conditioning.energy) if self.level_from_energy else mel

    def relative(self, mel: Tensor, conditioning: Conditioning) -> Tensor:
        """[B, M, N] natural log -> what `scaling` has the bounds of: less the level of the energy
        where that is not sampled."""
        mel = mel.float()
        return mel - energy_level(conditioning.energy) if self.level_from_energy else mel

    def replace_vocoder(self, vocoder: Vocoder) -> None:
        """Another vocoder of the same mel from now on; it is frozen.

        Raises:
            ValueError: it takes another number of mel bins.
        """
        if vocoder.mel_bins != self.mel_bins:
            raise ValueError(
                f"the vocoder's mel_bins={vocoder.mel_bins} must be the denoiser's {self.mel_bins}"
            )
        self.vocoder: Vocoder = vocoder.requires_grad_(False).eval()

    def fold_weight_norm(self) -> None:
        """Computes the vocoder's normed weights once and for all. For inference; load weights
        first."""
        self.vocoder.fold_weight_norm()

    def train(self, mode: bool = True) -> "MelSinger":
        """As in torch, but that the vocoder stays as it is."""
        super().train(mode)
        self.vocoder.eval()
        return self

    def check_mel(self, conditioning: Conditioning, mel: Tensor) -> None:
        """Raise a ValueError unless the mel has this singer's bins and the inputs' frames."""
        expected = (conditioning.content.shape[0], self.mel_bins, conditioning.frames)
        if mel.shape != expected:
            raise ValueError(
                f"mel {list(mel.shape)} must be {list(expected)}: {self.mel_bins} mel bins, and "
                f"the batch and frames of the conditioning"
            )

    def _checked_shallow(
        self,
        conditioning: Conditioning,
        mel: Tensor | None,
        steps: int | None,
    ) -> Tensor | None:
        """The scaled mel to begin with, if any."""
        if (mel is None) != (steps is None):
            raise ValueError("shallow_mel and shallow_steps belong together; give both or neither")
        if mel is None or steps is None:
            return None
        if not 0 <= steps <= self.noise_steps:
            raise ValueError(f"shallow_steps={steps} must be 0 to {self.noise_steps}")
        self.check_mel(conditioning, mel)
        if not bool(torch.isfinite(mel).all()):
            raise ValueError("shallow_mel holds NaN or infinite values")
        return self.scaled(mel, conditioning)


def check_finite(conditioning: Conditioning) -> None:
    """Raise a ValueError that names every input with NaN or infinite values."""
    broken = [
        field.name
        for field in fields(conditioning)
        if not bool(torch.isfinite(getattr(conditioning, field.name)).all())
    ]
    if broken:
        raise ValueError(
            f"{', '.join(broken)} of the conditioning: NaN or infinite values; the features of "
            f"this recording have to be extracted again"
        )
