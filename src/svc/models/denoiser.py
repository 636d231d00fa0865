"""The WaveNet denoiser of a diffusion over mels: DiffWave's (Kong et al. 2021, section 3) as
DiffSinger (Liu et al. 2022) and the published DiffSVC models use it."""

import math

import torch
from torch import Tensor, nn

from svc.models.wavenet import WaveNet

LONGEST_PERIOD = 10_000.0
"""Of the step embedding's sinusoids, in steps over 2 pi."""


class MelDenoiser(nn.Module):
    """Predicts what was added to a mel, from the noisy mel, the time and the condition.

    Args:
        backbone: M channels in and out; the condition is the conditioner's sequence. Its output
            layer is set to zero, so that an untrained denoiser predicts nothing at all.
        linear_bias: whether the layers that process the time have a bias; those of the first
            published models have none.

    Raises:
        ValueError: the backbone's channels do not fit.
    """

    def __init__(self, backbone: WaveNet, linear_bias: bool = True) -> None:
        super().__init__()
        channels = backbone.channels
        if backbone.in_channels != backbone.out_channels:
            raise ValueError(
                f"backbone in_channels={backbone.in_channels} and "
                f"out_channels={backbone.out_channels} must both be the number of mel bins"
            )
        if channels % 2 or channels < 4:
            raise ValueError(f"backbone channels={channels} must be even and at least 4")
        self.mel_bins = backbone.in_channels
        self.condition_channels = backbone.condition_channels
        self.receptive_frames = backbone.receptive_frames
        self.backbone = backbone
        nn.init.zeros_(backbone.output.weight)
        self.step_mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels, bias=linear_bias),
            nn.Mish(),
            nn.Linear(4 * channels, channels, bias=linear_bias),
        )
        # One matrix for all layers, each initialised as a matrix of its own would be.
        self.step_projection = nn.Linear(channels, backbone.layers * channels, bias=linear_bias)
        for index in (0, 2):
            nn.init.xavier_uniform_(self.step_mlp[index].weight)  # type: ignore[arg-type]
        bound = math.sqrt(3 / channels)
        nn.init.uniform_(self.step_projection.weight, -bound, bound)

    def prepare(self, condition: Tensor) -> Tensor:
        """What all layers see of the condition; once per utterance, not once per evaluation.

        Args:
            condition: [B, condition_channels, N].

        Returns:
            For `forward`; its shape is the denoiser's own affair.

        Raises:
            ValueError: the shape is wrong.
        """
        if condition.ndim != 3 or condition.shape[1] != self.condition_channels:
            raise ValueError(
                f"the condition {list(condition.shape)} must be [B, {self.condition_channels}, N]"
            )
        return self.backbone.project_condition(condition)

    def forward(
        self, x: Tensor, time: Tensor, prepared: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """One evaluation.

        Args:
            x: [B, M, N], the noisy mel.
            time: [B], from 0 (clean) to 999 (noise), fractional where a sampler wants it.
            prepared: from `prepare`, of the same B and N.
            mask: [B, 1, N], 1 or True for real frames. Padding then changes no real frame, and
                comes out as zeros. (The published denoisers let padding pass on its biases.)

        Returns:
            [B, M, N].

        Raises:
            ValueError: a shape is wrong.
        """
        batch, frames = x.shape[0], x.shape[-1]
        if x.ndim != 3 or x.shape[1] != self.mel_bins:
            raise ValueError(f"x {list(x.shape)} must be [B, {self.mel_bins}, N]")
        if time.shape != (batch,) or (prepared.shape[0], prepared.shape[-1]) != (batch, frames):
            raise ValueError(
                f"time {list(time.shape)} must be [B] and the prepared condition "
                f"{list(prepared.shape)} must be [B, …, N], with B and N of x {list(x.shape)}"
            )
        if mask is not None and mask.shape != (batch, 1, frames):
            raise ValueError(f"mask {list(mask.shape)} must be {[batch, 1, frames]}")
        output = self.backbone.run(x, prepared, self._offsets(time), mask)
        return output if mask is None else output * mask.to(output.dtype)

    def _offsets(self, time: Tensor) -> Tensor:
        """[B] -> [B, layers, C]."""
        # In full precision under any autocast: it is next to nothing, and times must not blur.
        with torch.autocast(time.device.type, enabled=False):
            embedded = step_embedding(time, self.backbone.channels)
            # (An adapted weight is computed anew whenever it is looked at; parameters are not.)
            embedded = embedded.to(next(self.parameters()).dtype)
            offsets: Tensor = self.step_projection(self.step_mlp(embedded))
        return offsets.view(-1, self.backbone.layers, self.backbone.channels)


def step_embedding(time: Tensor, channels: int) -> Tensor:
    """Times [B] -> [B, channels] float32: sines, then cosines, at periods from 2 pi to
    20 000 pi steps in equal ratios (Vaswani et al. 2017, section 3.5, with `half - 1` intervals as
    the published denoisers have it)."""
    half = channels // 2
    order = torch.arange(half, dtype=torch.float32, device=time.device)
    frequencies = torch.exp(order * (-math.log(LONGEST_PERIOD) / (half - 1)))
    angles = time.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
