"""fish-diffusion's condition encoders as the weights of `svc.models.conditioner.Conditioner`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from svc.checkpoints.layouts.base import LayoutOptions
from svc.checkpoints.layouts.inputs import PublishedEncoder, read_encoder
from svc.errors import UserError
from svc.models.pitch_encoding import COARSE_STEPS, COARSE_TABLE_ROWS

TABLE_BOUNDS_HZ = [40.0, 1100.0]
"""Of tables of pitches: diff-svc's, whose weights fish-diffusion's models with a table continue."""
SCALE_BOUNDS_HZ = [50.0, 1100.0]
_OF_A_LAYER = ("scale", "log")
"""Encodings that a linear layer over one number may have been trained with."""


@dataclass
class FishConditioner:
    """What a fish-diffusion model is told to sing; filled by `read`."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of `Conditioner`, but for those that only the data knows."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    """Under our names."""
    used: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    content_channels: int = 0

    @classmethod
    def read(
        cls, state: Mapping[str, Tensor], root: str, options: LayoutOptions, channels: int
    ) -> "FishConditioner":
        """The encoders below `root` (`root + "text_encoder.…"`), each of `channels` channels.

        Raises:
            UserError: an encoder is of another kind than svc can express, or the options do not
                fit; names it.
        """

        def encoder(name: str) -> PublishedEncoder | None:
            return read_encoder(state, f"{root}{name}.", channels)

        found = cls(settings={"channels": channels, "kernel": 1})
        found._read_content(encoder("text_encoder"), f"{root}text_encoder", channels)
        found._read_pitch(encoder, root, options)
        found._read_speaker(encoder("speaker_encoder"), f"{root}speaker_encoder", channels)
        found._read_optional(encoder, root, "energy", options.use_energy)
        found._read_optional(encoder, root, "key_shift", options.use_key_shift)
        return found

    def _read_content(self, encoder: PublishedEncoder | None, name: str, channels: int) -> None:
        self.settings["content_projection"] = encoder is not None
        if encoder is None:
            self.content_channels = channels
            self.notes.append("Its content passes as it is (IdentityEncoder).")
            return
        if encoder.is_table:
            raise UserError(f"{name} is a table of phonemes; svc converts from audio alone.")
        self.content_channels = encoder.weight.shape[1]
        self._take(encoder, "content", dimensions=3)

    def _read_pitch(
        self,
        encoder_of: Callable[[str], PublishedEncoder | None],
        root: str,
        options: LayoutOptions,
    ) -> None:
        encoder, given = encoder_of("pitch_encoder"), options.pitch_encoding
        name = f"{root}pitch_encoder"
        possible: tuple[str, ...] = ("none",)
        if encoder is not None:
            possible = ("coarse",) if encoder.is_table else _OF_A_LAYER
        if given is not None and given not in possible:
            raise UserError(
                f"options.pitch_encoding={given} does not fit {name}, which "
                f"{'is not in the file' if encoder is None else 'is trained for another'}: give "
                f"{' or '.join(possible)}."
            )
        if encoder is None:
            self.settings["pitch_encoding"] = "none"
        elif encoder.is_table:
            self.settings |= {"pitch_encoding": "coarse", "pitch_bounds_hz": TABLE_BOUNDS_HZ}
            self.notes.append("Its table of pitches is taken to reach from 40 to 1100 Hz.")
            self.weights["pitch.weight"] = pitch_table(encoder.weight, name)
            self.used += encoder.names
        else:
            shifted = encoder_of("pitch_shift_encoder") is not None
            assumed = "log" if shifted else "scale"
            self.settings |= {
                "pitch_encoding": given or assumed,
                "pitch_bounds_hz": SCALE_BOUNDS_HZ,
            }
            if given is None:
                self.notes.append(
                    f"Its pitch is taken for {_PITCH_WORDS[assumed]}, as in fish-diffusion's "
                    f"configurations {'with' if shifted else 'without'} a pitch_shift_encoder "
                    f"(options.pitch_encoding={assumed}; the other is {_OTHER[assumed]})."
                )
            self._take(encoder, "pitch", dimensions=3, inputs=1)

    def _read_speaker(self, encoder: PublishedEncoder | None, name: str, channels: int) -> None:
        if encoder is None:
            self.missing.append(f"{name}.embedding.weight")
            self.weights["speaker.weight"] = torch.zeros(1, channels)
            self.notes.append(
                "It holds no speakers. One whose row is zero takes their place, which fine-tuning "
                "replaces."
            )
            return
        if not encoder.is_table:
            raise UserError(
                f"{name} takes vectors of speakers that another network makes; svc has a row for "
                f"each speaker. The file cannot be imported."
            )
        self._take(encoder, "speaker", dimensions=2)

    def _read_optional(
        self,
        encoder_of: Callable[[str], PublishedEncoder | None],
        root: str,
        input_name: str,
        wanted: bool | None,
    ) -> None:
        """Energy or key shift, which models may have learned to do without."""
        published = {"energy": "energy_encoder", "key_shift": "pitch_shift_encoder"}[input_name]
        encoder = encoder_of(published)
        if encoder is None and wanted:
            raise UserError(
                f"options.use_{input_name}=true: the file has no {root}{published}. Leave it out."
            )
        used = encoder is not None and (not encoder.is_untrained if wanted is None else wanted)
        self.settings[f"use_{input_name}"] = used
        if encoder is None:
            return
        if not used:
            self.notes.append(
                f"{root}{published} is left out, "
                + (
                    f"because options.use_{input_name}=false."
                    if wanted is False
                    else "because its bias is exactly zero: it was never trained and would add "
                    f"noise (options.use_{input_name}=true takes it all the same)."
                )
            )
            return
        if encoder.is_table:
            raise UserError(f"{root}{published} is a table; expected a layer over one number.")
        key, value = _ENCODINGS[input_name]
        self.settings[key] = value
        self._take(encoder, input_name, dimensions=3 if input_name == "energy" else 2, inputs=1)

    def _take(
        self, encoder: PublishedEncoder, ours: str, *, dimensions: int, inputs: int | None = None
    ) -> None:
        weight, bias = encoder.weight, encoder.bias
        if inputs is not None and weight.shape[1] != inputs:
            raise UserError(
                f"{encoder.names[0]} takes {weight.shape[1]} numbers per frame; expected {inputs}."
            )
        self.weights[f"{ours}.weight"] = weight[:, :, None] if dimensions == 3 else weight
        if bias is not None:
            self.weights[f"{ours}.bias"] = bias
        self.used += encoder.names


_ENCODINGS = {
    "energy": ("energy_encoding", "linear"),
    "key_shift": ("key_shift_encoding", "semitones"),
}
_PITCH_WORDS = {"scale": "linear between 50 and 1100 Hz", "log": "octaves above 1 Hz"}
_OTHER = {"scale": "log", "log": "scale"}


def pitch_table(table: Tensor, name: str) -> Tensor:
    """A published table of coarse pitches as ours, [300, C]; rows 1 to 255 are ever looked up.

    Raises:
        UserError: it lacks some of those.
    """
    looked_up = COARSE_STEPS + 2
    if table.ndim != 2 or len(table) < looked_up:
        raise UserError(f"{name} {list(table.shape)} must be [rows, C], {looked_up} rows or more.")
    padding = torch.zeros(max(COARSE_TABLE_ROWS - len(table), 0), table.shape[1])
    return torch.cat([table[:COARSE_TABLE_ROWS].float(), padding])
