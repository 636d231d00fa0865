"""HiFiSinger: from conditioning to a waveform in one pass, with a log mel in the middle or not."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from svc.models.conditioner import Conditioner, Conditioning
from svc.models.feature_fuser import FeatureFuser
from svc.models.mel_level import energy_level
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.sine_source import Randomness
from svc.models.wavenet import WaveNet

MEL_CENTRE, MEL_SCALE = -5.5, 2.0
"""About the mean and the spread of the log mel of singing. The projection starts here and learns in
these units, or hundreds of the first steps go into finding the level."""


@dataclass(frozen=True)
class SingerOutput:
    """A rendering and the mel that it was made from."""

    audio: Tensor
    """[B, 1, N * hop_samples] in (-1, 1); fewer frames where only a window was rendered."""
    mel: Tensor | None
    """[B, M, N] natural log; None of a model without a mel in the middle."""


class HifiSinger(nn.Module):
    """Conditioner, backbone, mel projection and NSF-HiFiGAN decoder.

    Args:
        conditioner: inputs to a sequence.
        backbone: takes the sequence as its input and as its condition.
        decoder: mel and F0 to waveform.
        level_from_energy: predict the mel relative to the frame's energy, and not its level as
            well. Content of voices unlike the training's then makes a wrong timbre at worst, but
            not a wrong level. Wants a conditioner with energy.
        mel_bottleneck: False lets the decoder take what the backbone puts out instead of a mel, as
            fish-diffusion's HiFiSinger does. There is nothing then that another vocoder could
            render, and no level that could come from the energy.

    Raises:
        ValueError: the widths of the parts differ, there is no energy to take levels from, or a
            mel is needed that is not there.
    """

    def __init__(
        self,
        conditioner: Conditioner,
        backbone: WaveNet | FeatureFuser,
        decoder: NsfHifiGan,
        level_from_energy: bool = True,
        mel_bottleneck: bool = True,
    ) -> None:
        super().__init__()
        if level_from_energy and conditioner.energy is None:
            raise ValueError(
                "level_from_energy needs a conditioner with use_energy; set both or neither"
            )
        widths = (backbone.in_channels, backbone.condition_channels)
        if widths != (conditioner.channels, conditioner.channels):
            raise ValueError(
                f"backbone in_channels={widths[0]} and condition_channels={widths[1]} must both be "
                f"the conditioner's channels={conditioner.channels}"
            )
        if not mel_bottleneck:
            _check_without_mel(backbone.out_channels, decoder, level_from_energy)
        self.level_from_energy = level_from_energy
        self.conditioner = conditioner
        self.backbone = backbone
        self.mel_projection: nn.Conv1d | None = None
        if mel_bottleneck:
            self.mel_projection = nn.Conv1d(backbone.out_channels, decoder.mel_bins, 1)
            nn.init.zeros_(self.mel_projection.bias)  # type: ignore[arg-type]
        self.decoder = decoder
        self.receptive_frames: int = (
            conditioner.receptive_frames + backbone.receptive_frames + decoder.receptive_frames
        )
        """Frames of context on each side that can influence an output frame."""

    @property
    def has_mel(self) -> bool:
        """Whether there is a mel between backbone and decoder."""
        return self.mel_projection is not None

    def forward(
        self,
        conditioning: Conditioning,
        *,
        rendered: slice = slice(None),
        source: Tensor | None = None,
        rng: Randomness = None,
    ) -> SingerOutput:
        """Sings.

        Args:
            conditioning: N frames.
            rendered: the frames whose mel is decoded; the mel itself is always whole. In training
                a window saves most of the work.
            source: [B, 1, rendered frames * hop_samples] excitation instead of the sine source.
            rng: randomness of the sine source: a generator, a seed, or None for fresh numbers.

        Raises:
            ValueError: a shape is wrong.
        """
        features = self.decoder_input(conditioning)
        audio = self.decoder(
            features[..., rendered],
            conditioning.f0_hz[..., rendered],
            conditioning.voiced[..., rendered],
            source=source,
            rng=rng,
        )
        return SingerOutput(audio=audio, mel=features if self.has_mel else None)

    def decoder_input(self, conditioning: Conditioning) -> Tensor:
        """-> what the decoder renders: the mel [B, M, N], or without one the backbone's output
        [B, C, N]."""
        if self.has_mel:
            return self.predict_mel(conditioning)
        sequence = self.conditioner(conditioning)
        features: Tensor = self.backbone(sequence, sequence)
        return features

    def predict_mel(self, conditioning: Conditioning) -> Tensor:
        """-> [B, M, N] natural-log mel, which any vocoder of the same mel can render.

        Raises:
            ValueError: this model has none.
        """
        if self.mel_projection is None:
            raise ValueError("a HiFiSinger with mel_bottleneck=False predicts no mel")
        sequence = self.conditioner(conditioning)
        hidden = F.leaky_relu(self.backbone(sequence, sequence), 0.1)
        mel: Tensor = MEL_CENTRE + MEL_SCALE * self.mel_projection(hidden).float()
        if self.level_from_energy:
            mel = mel + energy_level(conditioning.energy)
        return mel

    def fold_weight_norm(self) -> None:
        """Computes the normed weights once and for all. For inference; load weights first."""
        self.decoder.fold_weight_norm()


def _check_without_mel(channels: int, decoder: NsfHifiGan, level_from_energy: bool) -> None:
    if decoder.mel_bins != channels:
        raise ValueError(
            f"without a mel_bottleneck the decoder's mel_bins={decoder.mel_bins} must be the "
            f"backbone's out_channels={channels}"
        )
    if level_from_energy:
        raise ValueError("level_from_energy is about a mel; it needs mel_bottleneck")
    if decoder.shaper is not None:
        raise ValueError("shaped_source takes its shape from a mel; it needs mel_bottleneck")
