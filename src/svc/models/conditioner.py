"""What a model is told to sing: content, pitch, energy, speaker and key shift in one sequence."""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

LOWEST_F0_HZ = 20.0
"""F0 is clamped to this before its logarithm; below every tracker's range."""
REFERENCE_F0_HZ = 220.0
F0_CYCLES_PER_OCTAVE = (0.25, 0.5, 1.0, 2.0)
ENERGY_FLOOR = 1e-5
ENERGY_CENTRE_DB, ENERGY_SCALE_DB = -40.0, 20.0


@dataclass(frozen=True)
class Conditioning:
    """Inputs of a conversion on the mel's frame grid. B batch, C content channels, N frames."""

    content: Tensor
    """[B, C, N] float."""
    f0_hz: Tensor
    """[B, N] float, interpolated through unvoiced frames."""
    voiced: Tensor
    """[B, N] bool."""
    energy: Tensor
    """[B, N] float, linear RMS."""
    speaker: Tensor
    """[B] int64 indices into the speaker table, or [B, S] float weights that mix speakers."""
    key_shift_semitones: Tensor
    """[B] float, 0 for the voice as it is."""

    @property
    def frames(self) -> int:
        """N."""
        return self.content.shape[-1]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Conditioning":
        """The same inputs on another device."""
        moved = {
            f.name: getattr(self, f.name).to(device, non_blocking=non_blocking)
            for f in fields(self)
        }
        return replace(self, **moved)

    def crop(self, start: int, stop: int) -> "Conditioning":
        """Frames [start, stop)."""
        timed = ("content", "f0_hz", "voiced", "energy")
        return replace(self, **{name: getattr(self, name)[..., start:stop] for name in timed})


class Conditioner(nn.Module):
    """Projects every input to `channels` and adds them up.

    Args:
        content_channels: C of the content features.
        speakers: S, size of the speaker table.
        channels: of the result.
        kernel: of the content projection in frames, odd.
        use_energy: False leaves energy out altogether.
        use_key_shift: False leaves the key shift out altogether. With it, a key shift that was
            never varied in training changes nothing: its projection starts at zero, has no bias
            and gets no gradient from shifts of zero.
    """

    def __init__(
        self,
        *,
        content_channels: int,
        speakers: int,
        channels: int = 128,
        kernel: int = 3,
        use_energy: bool = True,
        use_key_shift: bool = True,
    ) -> None:
        super().__init__()
        if speakers < 1 or kernel % 2 == 0:
            raise ValueError(f"speakers={speakers} must be at least 1, kernel={kernel} odd")
        self.content_channels = content_channels
        self.channels = channels
        self.receptive_frames = kernel // 2
        self.content = nn.Conv1d(content_channels, channels, kernel, padding=kernel // 2)
        self.pitch = nn.Conv1d(2 + 2 * len(F0_CYCLES_PER_OCTAVE), channels, 1)
        self.energy = nn.Conv1d(1, channels, 1) if use_energy else None
        self.speaker = nn.Embedding(speakers, channels)
        self.key_shift = nn.Linear(2, channels, bias=False) if use_key_shift else None
        if self.key_shift is not None:
            nn.init.zeros_(self.key_shift.weight)

    def forward(self, conditioning: Conditioning) -> Tensor:
        """-> [B, channels, N].

        Raises:
            ValueError: a shape or type is wrong; names every such input.
        """
        self._check(conditioning)
        x: Tensor = self.content(conditioning.content)
        x = x + self.pitch(pitch_features(conditioning.f0_hz, conditioning.voiced))
        if self.energy is not None:
            x = x + self.energy(energy_features(conditioning.energy))
        utterance = self.embed_speaker(conditioning.speaker)
        if self.key_shift is not None:
            utterance = utterance + self.key_shift(
                key_shift_features(conditioning.key_shift_semitones)
            )
        return x + utterance[:, :, None]

    def embed_speaker(self, speaker: Tensor) -> Tensor:
        """[B] int64 indices or [B, S] float mix weights -> [B, channels]."""
        if speaker.ndim == 1:
            embedded: Tensor = self.speaker(speaker)
            return embedded
        return speaker @ self.speaker.weight

    def _check(self, conditioning: Conditioning) -> None:
        content, speaker = conditioning.content, conditioning.speaker
        if content.ndim != 3 or content.shape[1] != self.content_channels:
            raise ValueError(
                f"content {list(content.shape)} must be [B, {self.content_channels}, N]"
            )
        batch, frames = content.shape[0], content.shape[2]
        faults = [
            f"{name} {list(getattr(conditioning, name).shape)} must be [B, N] = {[batch, frames]}"
            for name in ("f0_hz", "voiced", "energy")
            if getattr(conditioning, name).shape != (batch, frames)
        ]
        speakers = self.speaker.num_embeddings
        is_index = speaker.shape == (batch,) and not speaker.is_floating_point()
        is_mix = speaker.shape == (batch, speakers) and speaker.is_floating_point()
        if not is_index and not is_mix:
            faults.append(
                f"speaker {list(speaker.shape)} {speaker.dtype} must be int64 indices [{batch}] "
                f"or float mix weights {[batch, speakers]}"
            )
        if conditioning.key_shift_semitones.shape != (batch,):
            faults.append(
                f"key_shift_semitones {list(conditioning.key_shift_semitones.shape)} must be "
                f"[B] = [{batch}]"
            )
        if faults:
            raise ValueError("; ".join(faults))


def pitch_features(f0_hz: Tensor, voiced: Tensor) -> Tensor:
    """f0_hz [B, N], voiced [B, N] bool -> [B, 10, N]: the voiced flag, octaves above 220 Hz, and
    their sines and cosines at a few rates, which place a note within its octave."""
    octaves = torch.log2(f0_hz.float().clamp_min(LOWEST_F0_HZ) / REFERENCE_F0_HZ)
    rates = torch.tensor(F0_CYCLES_PER_OCTAVE, dtype=octaves.dtype, device=octaves.device)
    angles = 2 * math.pi * rates[:, None] * octaves[:, None]
    flag = voiced.to(octaves.dtype)
    return torch.cat([torch.stack([flag, octaves], 1), angles.sin(), angles.cos()], dim=1)


def energy_features(energy: Tensor) -> Tensor:
    """Linear RMS [B, N] -> [B, 1, N], in units of 20 dB around -40 dB."""
    level_db = 20 * torch.log10(energy.float().clamp_min(ENERGY_FLOOR))
    return ((level_db - ENERGY_CENTRE_DB) / ENERGY_SCALE_DB)[:, None]


def key_shift_features(semitones: Tensor) -> Tensor:
    """[B] -> [B, 2] in octaves, signed and absolute, so that up and down may differ; 0 at 0."""
    octaves = semitones.float()[:, None] / 12
    return torch.cat([octaves, octaves.abs()], dim=1)
