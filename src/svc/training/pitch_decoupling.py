"""Training a vocoder to follow an F0 that differs from its mel's."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svc.audio.mel import MelSpectrogram
from svc.errors import UserErrors

MAX_SEMITONES = 24.0


@dataclass(frozen=True)
class PitchDecoupling:
    """Generate at a shifted F0 and shift back.

    In a recording, F0 and mel always agree, so that a vocoder may read the pitch off the harmonics
    in the mel and leave the sine source aside. A conversion gives it an F0 that the mel does not
    quite have. To practise that, some crops get the mel of a copy in another key:

        mel of x, F0 * 2^(k/12) -> averaged generator -> copy -> mel -.
                                                 F0 of x ------------> generator -> must be x

    What is heard of the copy is the mel alone; the wanted waveform is a recording, and every loss
    judges it as usual. No gradient flows into the copy: trained through both passes, a generator
    would gain by hiding the old pitch in the copy, as cycle-consistent image translators hide what
    they are to restore (Chu, Zhmoginov and Sandler 2017, "CycleGAN, a master of steganography").
    The idea of training on one's own shifted renderings is common among those who train
    NSF-HiFiGANs; this formulation is our own.

    Raises:
        UserErrors: a value is out of range.
    """

    probability: float = 0.0
    """Share of the crops whose mel is that of a copy; each costs a rendering without gradient."""
    max_semitones: float = 6.0
    """The copy's shift lies between minus and plus this, all alike likely; above 0."""

    def __post_init__(self) -> None:
        faults = []
        if not 0 <= self.probability <= 1:
            faults.append(f"probability={self.probability} must be from 0 to 1.")
        if not 0 < self.max_semitones <= MAX_SEMITONES:
            faults.append(
                f"max_semitones={self.max_semitones} must be above 0 and at most {MAX_SEMITONES:g}."
            )
        if faults:
            raise UserErrors("arch.pitch_decoupling cannot be used:", faults)

    def draw(self, crops: int, seed: int) -> tuple[Tensor, Tensor]:
        """Which of the crops get the mel of a copy [B] bool, and its shift in semitones [B]."""
        # On the CPU, because the training step asks which crops there are.
        rng = torch.Generator().manual_seed(seed)
        chosen = torch.rand(crops, generator=rng) < self.probability
        return chosen, self.max_semitones * (2 * torch.rand(crops, generator=rng) - 1)


@torch.no_grad()
def mel_of_shifted_copy(
    vocoder: nn.Module,
    mel_of: MelSpectrogram,
    mel: Tensor,
    f0_hz: Tensor,
    voiced: Tensor,
    semitones: Tensor,
    rng: torch.Generator,
) -> Tensor:
    """The mel of what a vocoder makes of the same mel in another key.

    Args:
        vocoder: mel, F0, voicing -> audio [B, 1, T].
        mel_of: the mel that it takes.
        mel: [B, M, N] natural log.
        f0_hz: [B, N].
        voiced: [B, N] bool.
        semitones: [B], by how much F0 is shifted.
        rng: randomness of the sine source.

    Returns:
        [B, M, N] float32, without a graph.
    """
    ratio = 2 ** (semitones.to(f0_hz.device) / 12)
    copy = vocoder(mel, f0_hz * ratio[:, None], voiced, rng=rng)
    shifted: Tensor = mel_of(copy[:, 0].float())
    return shifted
