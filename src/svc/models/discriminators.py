"""Multi-period, multi-scale and multi-resolution spectrogram discriminator as one."""

from dataclasses import dataclass

from torch import Tensor, nn

from svc.models.period_discriminator import MultiPeriodDiscriminator
from svc.models.scale_discriminator import MultiScaleDiscriminator
from svc.models.spectrogram_discriminator import MultiResolutionSpectrogramDiscriminator


@dataclass(frozen=True)
class DiscriminatorOutput:
    """What the discriminators think of a batch; an entry per period, per scale, per resolution."""

    scores: list[Tensor]
    """[B, *] each: 1 for real, 0 for generated, at the optimum of the least-squares loss."""
    features: list[list[Tensor]]
    """[B, C, *] each: the hidden layers of each and its scores, for feature matching."""


class Discriminators(nn.Module):
    """Judges waveforms by their periods, on several scales, and by their spectrograms.

    Args:
        periods: the multi-period discriminator.
        scales: the multi-scale discriminator; None leaves it out.
        spectrograms: the multi-resolution spectrogram discriminator; None leaves it out.
    """

    def __init__(
        self,
        periods: MultiPeriodDiscriminator,
        scales: MultiScaleDiscriminator | None = None,
        spectrograms: MultiResolutionSpectrogramDiscriminator | None = None,
    ) -> None:
        super().__init__()
        self.periods = periods
        self.scales = scales
        self.spectrograms = spectrograms

    @property
    def judges(self) -> list[nn.Module]:
        """The single discriminators, audio [B, 1, T] -> scores and features. Their losses are
        independent sums, so that a training step may finish one, backward pass included, before
        the next and hold the activations of only one."""
        scales = self.scales.scales if self.scales is not None else ()
        spectrograms = self.spectrograms.resolutions if self.spectrograms is not None else ()
        return [*self.periods.periods, *scales, *spectrograms]

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        """audio [B, 1, T] with T above the longest period.

        Raises:
            ValueError: not [B, 1, T].
        """
        if audio.ndim != 3 or audio.shape[1] != 1:
            raise ValueError(f"audio {list(audio.shape)} must be [B, 1, T]")
        results = [judge(audio) for judge in self.judges]
        return DiscriminatorOutput(
            scores=[scores for scores, _ in results], features=[features for _, features in results]
        )
