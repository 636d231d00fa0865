"""Root mean square over a Hann window."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from svc.errors import UserError
from svc.features.energy.base import EnergyExtractor


class RmsEnergy(EnergyExtractor):
    """Square root of the mean power under a Hann window centred on the frame.

    The window spans several hops, as the mel's does: over the 11.6 ms of one hop alone the energy
    of a low voice ripples with where its pulses (12.5 ms apart at 80 Hz) happen to fall. At the
    ends the mean is taken over the samples that exist: a steady sound is level up to its edge.

    A sine of amplitude A measures A / sqrt(2), a constant c measures |c|.

    Args:
        window_hops: length of the window in hops, at least 1. 4 is the mel's window (2048 of 512).
    """

    def __init__(self, window_hops: int = 4) -> None:
        if window_hops < 1:
            raise UserError(f"energy.window_hops={window_hops} must be at least 1.")
        self.window_hops = window_hops

    def measure(self, audio: Tensor, hop_samples: int) -> Tensor:
        """audio [T] float32 -> linear RMS [N] float32, N = T // hop_samples."""
        if audio.dim() != 1:
            raise ValueError(f"expected audio [T], got shape {tuple(audio.shape)}")
        frames = audio.shape[0] // hop_samples
        if frames == 0:
            return audio.new_zeros(0, dtype=torch.float32)
        window_samples = self.window_hops * hop_samples
        window = torch.hann_window(window_samples + 1, device=audio.device)[1:]
        window = window.view(self.window_hops, hop_samples)
        power = audio[: frames * hop_samples].float().square()
        exists = torch.ones_like(power[: min(frames, 2 * self.window_hops) * hop_samples])
        weight = _windowed_sums(exists, window)
        if frames > 2 * self.window_hops:  # in the middle the whole window lies on the signal
            inner = weight[self.window_hops].expand(frames - 2 * self.window_hops)
            weight = torch.cat(
                [weight[: self.window_hops], inner, weight[self.window_hops :]],
            )
        return (_windowed_sums(power, window) / weight).sqrt()


def _windowed_sums(values: Tensor, window: Tensor) -> Tensor:
    """Sums under the window centred on each hop, zeros beyond the ends.

    Every hop is multiplied with the parts of the window that can fall on it, and the products are
    added up: no copy of the signal per overlapping window.

    Args:
        values: [N * hop].
        window: [window_hops, hop].

    Returns:
        [N].
    """
    window_hops, hop_samples = window.shape
    frames = values.shape[0] // hop_samples
    before = (window_hops - 1) * hop_samples // 2
    after = (window_hops - 1) * hop_samples - before
    parts = pad(values, (before, after)).view(-1, hop_samples) @ window.T
    return torch.stack([parts[k : k + frames, k] for k in range(window_hops)]).sum(dim=0)
