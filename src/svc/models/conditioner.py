"""What a model is told to sing: content, pitch, energy, speaker and key shift in one sequence."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from svc.models.pitch_encoding import (
    COARSE_TABLE_ROWS,
    F0_CYCLES_PER_OCTAVE,
    PitchEncoding,
    coarse_pitch,
    log_pitch,
    pitch_features,
    scaled_pitch,
)

EnergyEncoding = Literal["decibel", "linear"]
KeyShiftEncoding = Literal["octaves", "semitones"]

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
    """[B] int64 indices into the speaker table, or float weights that mix speakers: [B, S], or
    [B, N, S] for a mix that changes over time."""
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
        cropped = {name: getattr(self, name)[..., start:stop] for name in timed}
        if self.speaker.ndim == 3:
            cropped["speaker"] = self.speaker[:, start:stop]
        return replace(self, **cropped)


class Conditioner(nn.Module):
    """Projects every input to `channels` and adds them up.

    The defaults are this toolkit's; other encodings are those that published models were trained
    with.

    Args:
        content_channels: C of the content features.
        speakers: S, size of the speaker table.
        channels: of the result.
        kernel: of the content projection in frames, odd.
        use_energy: False leaves energy out altogether.
        use_key_shift: False leaves the key shift out altogether. With it, a key shift that was
            never varied in training changes nothing: its projection starts at zero, has no bias
            and gets no gradient from shifts of zero.
        content_projection: False adds the content as it is, which then has `channels` channels.
        pitch_encoding: see `svc.models.pitch_encoding`.
        pitch_bounds_hz: lower and upper end of the encodings `scale` and `coarse`.
        energy_encoding: "decibel", or "linear" RMS.
        key_shift_encoding: "octaves", signed and absolute; or "semitones", signed alone and with a
            bias that counts at a shift of zero as well.

    Raises:
        ValueError: a value is out of range, or content of another width is to pass as it is.
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
        content_projection: bool = True,
        pitch_encoding: PitchEncoding = "cycles",
        pitch_bounds_hz: Sequence[float] = (50.0, 1100.0),
        energy_encoding: EnergyEncoding = "decibel",
        key_shift_encoding: KeyShiftEncoding = "octaves",
    ) -> None:
        super().__init__()
        if speakers < 1 or kernel % 2 == 0:
            raise ValueError(f"speakers={speakers} must be at least 1, kernel={kernel} odd")
        if not content_projection and content_channels != channels:
            raise ValueError(
                f"content of {content_channels} channels cannot pass as it is where "
                f"channels={channels}; set content_projection or make them equal"
            )
        _check_choice("pitch_encoding", pitch_encoding, get_args(PitchEncoding))
        _check_choice("energy_encoding", energy_encoding, get_args(EnergyEncoding))
        _check_choice("key_shift_encoding", key_shift_encoding, get_args(KeyShiftEncoding))
        self.content_channels = content_channels
        self.channels = channels
        self.receptive_frames = kernel // 2 if content_projection else 0
        self.pitch_encoding: PitchEncoding = pitch_encoding
        self.pitch_bounds_hz = _checked_bounds(pitch_bounds_hz)
        self.energy_encoding = energy_encoding
        self.key_shift_encoding = key_shift_encoding
        self.content: nn.Module = (
            nn.Conv1d(content_channels, channels, kernel, padding=kernel // 2)
            if content_projection
            else nn.Identity()
        )
        self.pitch = _pitch_layer(pitch_encoding, channels)
        self.energy = nn.Conv1d(1, channels, 1) if use_energy else None
        self.speaker = nn.Embedding(speakers, channels)
        self.key_shift: nn.Linear | None = None
        if use_key_shift and key_shift_encoding == "semitones":
            self.key_shift = nn.Linear(1, channels)
        elif use_key_shift:
            self.key_shift = nn.Linear(2, channels, bias=False)
            nn.init.zeros_(self.key_shift.weight)

    def forward(self, conditioning: Conditioning) -> Tensor:
        """-> [B, channels, N].

        Raises:
            ValueError: a shape or type is wrong; names every such input.
        """
        self._check(conditioning)
        x: Tensor = self.content(conditioning.content)
        if self.pitch is not None:
            x = x + self._embed_pitch(conditioning.f0_hz, conditioning.voiced)
        if self.energy is not None:
            linear = self.energy_encoding == "linear"
            energy = conditioning.energy
            x = x + self.energy(energy.float()[:, None] if linear else energy_features(energy))
        spoken = self.embed_speaker(conditioning.speaker)
        if spoken.ndim == 2:
            spoken = spoken[:, :, None]
        if self.key_shift is not None:
            semitones = conditioning.key_shift_semitones
            if self.key_shift_encoding == "semitones":
                shift = self.key_shift(semitones.float()[:, None])
            else:
                shift = self.key_shift(key_shift_features(semitones))
            spoken = spoken + shift[:, :, None]
        return x + spoken

    def embed_speaker(self, speaker: Tensor) -> Tensor:
        """[B] int64 indices or [B, S] float mix weights -> [B, channels]; mix weights over time
        [B, N, S] -> [B, channels, N]."""
        if speaker.ndim == 1:
            embedded: Tensor = self.speaker(speaker)
            return embedded
        mixed = speaker @ self.speaker.weight
        return mixed if mixed.ndim == 2 else mixed.transpose(1, 2)

    def _embed_pitch(self, f0_hz: Tensor, voiced: Tensor) -> Tensor:
        """[B, N] each -> [B, channels, N]."""
        assert self.pitch is not None
        if self.pitch_encoding == "coarse":
            looked_up: Tensor = self.pitch(coarse_pitch(f0_hz, *self.pitch_bounds_hz))
            return looked_up.transpose(1, 2)
        if self.pitch_encoding == "scale":
            features = scaled_pitch(f0_hz, *self.pitch_bounds_hz)
        elif self.pitch_encoding == "log":
            features = log_pitch(f0_hz)
        else:
            features = pitch_features(f0_hz, voiced)
        embedded: Tensor = self.pitch(features)
        return embedded

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
        mixes = ((batch, speakers), (batch, frames, speakers))
        is_mix = speaker.shape in mixes and speaker.is_floating_point()
        if not is_index and not is_mix:
            faults.append(
                f"speaker {list(speaker.shape)} {speaker.dtype} must be int64 indices [{batch}] "
                f"or float mix weights {[batch, speakers]} or {[batch, frames, speakers]}"
            )
        if conditioning.key_shift_semitones.shape != (batch,):
            faults.append(
                f"key_shift_semitones {list(conditioning.key_shift_semitones.shape)} must be "
                f"[B] = [{batch}]"
            )
        if faults:
            raise ValueError("; ".join(faults))


def _pitch_layer(encoding: PitchEncoding, channels: int) -> nn.Module | None:
    if encoding == "none":
        return None
    if encoding == "coarse":
        return nn.Embedding(COARSE_TABLE_ROWS, channels)
    features = 2 + 2 * len(F0_CYCLES_PER_OCTAVE) if encoding == "cycles" else 1
    return nn.Conv1d(features, channels, 1)


def _check_choice(name: str, choice: str, choices: Sequence[str]) -> None:
    if choice not in choices:
        raise ValueError(f"{name}={choice!r} must be one of {', '.join(choices)}")


def _checked_bounds(bounds_hz: Sequence[float]) -> tuple[float, float]:
    if len(bounds_hz) != 2 or not 0 <= bounds_hz[0] < bounds_hz[1]:
        raise ValueError(
            f"pitch_bounds_hz={list(bounds_hz)} must be two frequencies, the lower one first"
        )
    return float(bounds_hz[0]), float(bounds_hz[1])


def energy_features(energy: Tensor) -> Tensor:
    """Linear RMS [B, N] -> [B, 1, N], in units of 20 dB around -40 dB."""
    level_db = 20 * torch.log10(energy.float().clamp_min(ENERGY_FLOOR))
    return ((level_db - ENERGY_CENTRE_DB) / ENERGY_SCALE_DB)[:, None]


def key_shift_features(semitones: Tensor) -> Tensor:
    """[B] -> [B, 2] in octaves, signed and absolute, so that up and down may differ; 0 at 0."""
    octaves = semitones.float()[:, None] / 12
    return torch.cat([octaves, octaves.abs()], dim=1)
