"""The models that convert, as the converter uses them: conditioning to mel, mel to waveform.

What is said of mels here holds for a HiFiSinger without one as well: what its decoder takes stands
in for the mel, but nothing else can render or refine it.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from svc.diffusion.samplers.base import Sampler
from svc.diffusion.sampling import initial_noise
from svc.errors import UserError
from svc.models.conditioner import Conditioner, Conditioning
from svc.models.hifisinger import HifiSinger
from svc.models.mel_singer import MelSinger
from svc.models.vocoder import Vocoder


class Singer(ABC):
    """Predicts mels that its vocoder makes audible.

    Args:
        network: the model; its weights are loaded.
        vocoder: what renders its mels.
        mel_frames: context on each side that can influence a frame of the mel.
    """

    def __init__(self, network: nn.Module, vocoder: Vocoder, mel_frames: int) -> None:
        vocoder.fold_weight_norm()
        self.network = network.eval().requires_grad_(False)
        self.vocoder = vocoder.eval().requires_grad_(False)
        self.mel_frames = mel_frames

    @property
    def receptive_frames(self) -> int:
        """Frames of context on each side that can influence a frame's samples."""
        return self.mel_frames + self.vocoder.receptive_frames

    @property
    def speaker_table(self) -> Tensor:
        """[S, C] embeddings of the speakers."""
        return speaker_table_of(self.network)

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.network.to(device)
        self.vocoder.to(device)

    def noise(self, frames: int, rng: torch.Generator) -> Tensor | None:
        """What a whole recording starts from, [1, M, frames], so that pieces of it agree wherever
        they are cut; None where nothing is random."""
        return None

    @abstractmethod
    def mel(self, conditioning: Conditioning, noise: Tensor | None, rng: torch.Generator) -> Tensor:
        """conditioning of N frames, their `noise` [1, M, N] -> [1, M, N] natural-log mel.

        `rng` is for what is drawn anew at every step.
        """


class DirectSinger(Singer):
    """A HiFiSinger: one pass."""

    def __init__(self, network: HifiSinger, vocoder: Vocoder | None = None) -> None:
        mel_frames = network.receptive_frames - network.decoder.receptive_frames
        super().__init__(network, vocoder or network.decoder, mel_frames)
        self._predict = network.decoder_input

    def mel(self, conditioning: Conditioning, noise: Tensor | None, rng: torch.Generator) -> Tensor:
        """See the base class; of a model without a mel [1, C, N] features for its decoder."""
        return self._predict(conditioning)


class SamplingSinger(Singer):
    """A model that makes a mel out of noise, with the sampler that leads there.

    The context is that of one evaluation of the network. Over many it adds up to more, but what
    lies further away hardly shows, and joints are crossfaded.

    Raises:
        UserError: the sampler is for models of another kind.
    """

    def __init__(
        self, network: MelSinger, sampler: Sampler, vocoder: Vocoder | None = None
    ) -> None:
        check_sampler(network, sampler)
        mel_frames = network.receptive_frames - network.vocoder.receptive_frames
        super().__init__(network, vocoder or network.vocoder, mel_frames)
        self._model = network
        self._sampler = sampler

    def noise(self, frames: int, rng: torch.Generator) -> Tensor:
        """See the base class."""
        return noise_of_recording(self._model, self._sampler, frames, rng)

    def mel(self, conditioning: Conditioning, noise: Tensor | None, rng: torch.Generator) -> Tensor:
        """See the base class."""
        return self._model.predict_mel(conditioning, self._sampler, noise=noise, rng=rng)


def noise_of_recording(
    network: MelSinger, sampler: Sampler, frames: int, rng: torch.Generator
) -> Tensor:
    """[1, M, frames] on the device of `rng`: what a sampler starts from, for a whole recording."""
    return initial_noise((1, network.mel_bins, frames), rng, sampler.temperature, rng.device)


def speaker_table_of(network: nn.Module) -> Tensor:
    """[S, C] embeddings of the speakers of a model that sings."""
    conditioner = network.conditioner
    if not isinstance(conditioner, Conditioner):
        raise TypeError(f"{type(network).__name__} has no Conditioner")
    return conditioner.speaker.weight


def check_sampler(network: MelSinger, sampler: Sampler) -> None:
    """Whether a sampler can lead a model from noise to a mel.

    Raises:
        UserError: one is for diffusion, the other for a rectified flow.
    """
    if sampler.path != network.path:
        better = "euler or heun" if network.path == "flow" else "unipc, dpm_solver_pp, ddim, …"
        raise UserError(
            f"sampler={type(sampler).__name__} is for {sampler.path} models, and this one is of "
            f"the kind {network.path}; take sampler={better}."
        )
