"""The predecessor's HiFiSinger out of our parts, for a comparison on the same work."""

from torch import Tensor, nn

from svc.audio.spec import AudioSpec
from svc.models.conditioner import Conditioner, Conditioning
from svc.models.discriminators import Discriminators
from svc.models.hifisinger import SingerOutput
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.period_discriminator import MultiPeriodDiscriminator
from svc.models.scale_discriminator import MultiScaleDiscriminator
from svc.models.sine_source import Randomness

CHANNELS = 256
STEP_BATCH, STEP_FRAMES = 4, 32
STEP_GFLOP = 1760.0
"""What a training step of these networks needs at batch 4 x 16384 samples where both updates run
the discriminators anew (9 times their forward work of 165 GFLOP, besides the generator), without
superfluous gradients. Ours shares one run of them and computes less: 7 times."""
RENDERING_GFLOP_PER_S = 56.0
"""What a second of audio needs."""


class PredecessorSinger(nn.Module):
    """Conditioner -> NSF-HiFiGAN with 256 input channels, no backbone and no mel in between.

    With the interface of `HifiSinger`. A 1x1 projection of the sequence gives the mel that the loss
    at the bottleneck asks for; 14.9 M parameters, 0.03 M of them in that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conditioner = Conditioner(content_channels=CHANNELS, speakers=1, channels=CHANNELS)
        self.mel_head = nn.Conv1d(CHANNELS, AudioSpec().mel_bins, 1)
        self.decoder = NsfHifiGan(mel_bins=CHANNELS)
        self.receptive_frames = self.conditioner.receptive_frames + self.decoder.receptive_frames

    def forward(
        self,
        conditioning: Conditioning,
        *,
        rendered: slice = slice(None),
        source: Tensor | None = None,
        rng: Randomness = None,
    ) -> SingerOutput:
        """As `HifiSinger.forward`."""
        sequence = self.conditioner(conditioning)
        audio = self.decoder(
            sequence[..., rendered],
            conditioning.f0_hz[..., rendered],
            conditioning.voiced[..., rendered],
            source=source,
            rng=rng,
        )
        return SingerOutput(audio=audio, mel=self.mel_head(sequence).float())

    def decoder_input(self, conditioning: Conditioning) -> Tensor:
        """What its decoder renders: the sequence itself, [B, C, N]."""
        sequence: Tensor = self.conditioner(conditioning)
        return sequence

    def fold_weight_norm(self) -> None:
        """As `HifiSinger.fold_weight_norm`."""
        self.decoder.fold_weight_norm()


def predecessor_discriminators() -> Discriminators:
    """Seven periods and three scales at the published width."""
    return Discriminators(
        MultiPeriodDiscriminator(periods=(2, 3, 5, 7, 11, 17, 23)),
        MultiScaleDiscriminator(scales=3, width=1.0),
    )
