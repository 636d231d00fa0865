"""Shallow diffusion: a second model makes the fine structure of a mel anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from svc.diffusion.samplers.base import Sampler
from svc.errors import UserError
from svc.inference.analysis import Extractors
from svc.inference.loading import (
    LoadedModel,
    extractors_of,
    has_mel,
    load_model,
    require_same_mel,
    sampler_of,
)
from svc.inference.singers import check_sampler, noise_of_recording, speaker_table_of
from svc.inference.speaker_mixing import Voice
from svc.models.conditioner import Conditioning
from svc.models.mel_singer import MelSinger


class Refiner:
    """Noises a mel up to a step of a diffusion and samples from there (shallow diffusion, Liu et
    al. 2022, "DiffSinger", section 3.2): what is coarse stays, what is fine is made anew.

    Args:
        network: whose idea of fine structure counts.
        sampler: of the way back.
        steps: of the model's schedule, 0 (nothing changes) to all of them (nothing is kept).

    Raises:
        UserError: the sampler is for models of another kind, or steps is out of range.
    """

    def __init__(self, network: MelSinger, sampler: Sampler, steps: int) -> None:
        check_sampler(network, sampler)
        if not 0 <= steps <= network.noise_steps:
            raise UserError(
                f"refine.steps={steps} must lie between 0 and the {network.noise_steps} steps "
                f"of that model's schedule."
            )
        self.network = network.eval().requires_grad_(False)
        self.receptive_frames = network.receptive_frames - network.vocoder.receptive_frames
        self._sampler = sampler
        self._steps = steps

    def noise(self, frames: int, rng: torch.Generator) -> Tensor:
        """[1, M, frames] for a whole recording."""
        return noise_of_recording(self.network, self._sampler, frames, rng)

    def refine(
        self, mel: Tensor, conditioning: Conditioning, noise: Tensor, rng: torch.Generator
    ) -> Tensor:
        """mel [1, M, N] natural log, its `noise` -> the same shape."""
        return self.network.predict_mel(
            conditioning,
            self._sampler,
            noise=noise,
            rng=rng,
            shallow_mel=mel,
            shallow_steps=self._steps,
        )


@dataclass(frozen=True)
class Refinement:
    """A refiner and what a converter needs to know about it."""

    refiner: Refiner
    speakers: Sequence[str]
    """Its speaker table."""
    extractors: Extractors | None = None
    """Of its own inputs; None where they are those of the model that it refines."""

    @property
    def speaker_table(self) -> Tensor:
        """[S, C] embeddings of its speakers."""
        return speaker_table_of(self.refiner.network)

    def check_voice(self, voice: Voice) -> None:
        """Whether its speaker table has the voice.

        Raises:
            UserError: it does not know one of the speakers.
        """
        for name in voice.names:
            if name not in self.speakers:
                raise UserError(
                    f"speaker={name} is not in the refining model; it knows: "
                    f"{', '.join(filter(None, self.speakers))}. Train it on the voices that it is "
                    f"to refine."
                )


def load_refinement(
    path: Path | str,
    first: LoadedModel,
    steps: int,
    *,
    sampler: Sampler | None = None,
    sampler_steps: int | None = None,
    device: torch.device,
) -> Refinement:
    """The refinement of a model's mels by the model of another checkpoint.

    Args:
        path: a .ckpt file of a DiffSVC model.
        first: the model whose mels are refined.
        steps: of noise, see `Refiner`.
        sampler: None for the one of the refining model's training.
        sampler_steps: of that one; None for its own number.
        device: for extractors that ask for one.

    Raises:
        UserError: it cannot refine, its mels are of another definition, or the first model has
            none.
    """
    if not has_mel(first.network):
        raise UserError(
            f"{first.path} is a HiFiSinger without a mel, so that there is none to refine; leave "
            f"refine.checkpoint= out."
        )
    loaded = load_model(path)
    if not isinstance(loaded.network, MelSinger):
        raise UserError(
            f"refine.checkpoint={path} must be a DiffSVC model; it is a "
            f"{type(loaded.network).__name__}."
        )
    require_same_mel(f"The refining model {path}", loaded.facts.audio, first.facts.audio)
    same_inputs = loaded.facts.feature_fingerprint == first.facts.feature_fingerprint
    return Refinement(
        Refiner(loaded.network, sampler or sampler_of(loaded, sampler_steps), steps),
        loaded.facts.speakers,
        None if same_inputs else extractors_of(loaded, device),
    )
