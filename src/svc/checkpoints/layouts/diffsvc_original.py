"""The original DiffSVC (prophesier/diff-svc), trained with `no_fs2`."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from svc.checkpoints.layouts.base import KeyReport, LayoutOptions, PublishedModel
from svc.checkpoints.layouts.conditioning import TABLE_BOUNDS_HZ, pitch_table
from svc.checkpoints.layouts.diffusion import read_diffusion
from svc.checkpoints.layouts.inputs import content_choice, pitch_choice, speaker_names
from svc.checkpoints.layouts.vocoder_inside import vocoder_inside
from svc.config.instantiate import merged
from svc.errors import UserError

_FIRST = "denoise_fn.residual_layers.0.dilated_conv.weight"
_BINS_AT_24_KHZ = 80
"""Of the older models, whose sample rate and hop are others."""


class OriginalDiffSvc:
    """Content as it is, and a row for each step of pitch, condition a WaveNet denoiser."""

    kind = "diffsvc_original"
    description = "DiffSVC as diff-svc (prophesier) trains it"

    def matches(self, names: Collection[str]) -> bool:
        """See `Layout`."""
        return any(f".{name}".endswith(f".{_FIRST}") for name in names)

    def read(self, state: Mapping[str, Tensor], options: LayoutOptions) -> PublishedModel:
        """See `Layout`."""
        root = next(n for n in state if f".{n}".endswith(f".{_FIRST}")).removesuffix(_FIRST)
        _refuse_what_cannot_run(state, root, options)
        diffusion = read_diffusion(state, root, options)
        if diffusion.size.mel_bins == _BINS_AT_24_KHZ:
            raise UserError(
                f"Its mel has {_BINS_AT_24_KHZ} bins, as in diff-svc's models at 24 kHz, whose "
                f"framing svc has no vocoder for. Models at 44.1 kHz have 128."
            )
        channels = diffusion.size.condition_channels
        weights, settings, used, input_notes = _conditioner(state, root, options, channels)
        vocoder = vocoder_inside(state, options, diffusion.size.mel_bins)
        speakers, speaker_notes = speaker_names(len(weights["speaker.weight"]), options)
        content, content_notes = content_choice(channels, options, "hubert_soft")
        pitch, pitch_notes = pitch_choice(options, "parselmouth")
        used = (*diffusion.used, *used, *vocoder.used)
        left_over = tuple(name for name in state if name not in set(used))
        notes = (
            *diffusion.notes,
            *input_notes,
            *content_notes,
            *pitch_notes,
            *speaker_notes,
            *vocoder.notes,
            *_about(left_over, root),
        )
        generator_settings = {"conditioner": settings, "loss": "l2"}
        return PublishedModel(
            kind=self.kind,
            choices={
                **diffusion.choices,
                "arch": "diffsvc",
                "content": content,
                "pitch": pitch,
                "vocoder": vocoder.choice,
            },
            settings=merged(
                merged(diffusion.settings, {"arch": {"generator": generator_settings}}),
                vocoder.settings,
            ),
            generator={
                **{f"conditioner.{name}": weight for name, weight in weights.items()},
                **diffusion.weights,
                **{f"vocoder.{name}": weight for name, weight in vocoder.weights.items()},
            },
            content_channels=channels,
            speakers=speakers,
            report=KeyReport(used, (), left_over, notes),
        )


def _refuse_what_cannot_run(state: Mapping[str, Tensor], root: str, options: LayoutOptions) -> None:
    """Raise a UserError where the condition depends on more than svc can compute."""
    encoder = next((name for name in state if name.startswith(f"{root}fs2.encoder.")), None)
    if encoder is not None:
        raise UserError(
            f"Its content goes through FastSpeech2's encoder ({encoder}; no_fs2: false in its "
            f"config.yaml), which svc does not have. Only models trained with no_fs2: true "
            f"can be imported."
        )
    if f"{root}fs2.spk_embed_proj.bias" in state:
        raise UserError(
            f"{root}fs2.spk_embed_proj takes vectors of speakers that another network makes "
            f"(use_spk_embed: true); svc has a row for each speaker. The file cannot be imported."
        )
    if f"{root}fs2.energy_embed.weight" in state and options.use_energy is not False:
        raise UserError(
            f"{root}fs2.energy_embed.weight: the model hears energy in 256 steps, which svc has no "
            f"encoding for. options.use_energy=false imports it without; it will sound different."
        )


def _conditioner(
    state: Mapping[str, Tensor], root: str, options: LayoutOptions, channels: int
) -> tuple[dict[str, Tensor], dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """Weights under our names, settings, published names that are used, and notes."""
    pitch_name, speaker_name = (f"{root}fs2.{n}.weight" for n in ("pitch_embed", "spk_embed_proj"))
    for name in (pitch_name, speaker_name):
        table = state.get(name)
        if table is not None and (table.ndim != 2 or table.shape[1] != channels):
            raise UserError(
                f"{name} is {list(table.shape)}; expected [rows, {channels}], as wide as the "
                f"denoiser's condition."
            )
    encoding = "coarse" if pitch_name in state else "none"
    if options.pitch_encoding not in (None, encoding):
        raise UserError(
            f"options.pitch_encoding={options.pitch_encoding} does not fit the file: give "
            f"{encoding}."
        )
    if options.use_energy or options.use_key_shift:
        raise UserError(
            "options.use_energy and options.use_key_shift: models of diff-svc hear neither energy "
            "nor a key shift. Leave them out."
        )
    settings: dict[str, Any] = {
        "channels": channels,
        "kernel": 1,
        "content_projection": False,
        "pitch_encoding": encoding,
        "use_energy": False,
        "use_key_shift": False,
    }
    weights, notes = {}, []
    if pitch_name in state:
        weights["pitch.weight"] = pitch_table(state[pitch_name], pitch_name)
        settings["pitch_bounds_hz"] = TABLE_BOUNDS_HZ
        notes.append("Its table of pitches is taken to reach from 40 to 1100 Hz.")
    if speaker_name in state:
        weights["speaker.weight"] = state[speaker_name].float()
    else:
        weights["speaker.weight"] = torch.zeros(1, channels)
        notes.append("It was trained on one speaker, whose row in our table is zero.")
    if f"{root}fs2.energy_embed.weight" in state:
        notes.append("Its energy is left out, because options.use_energy=false.")
    used = tuple(name for name in (pitch_name, speaker_name) if name in state)
    return weights, settings, used, tuple(notes)


def _about(left_over: tuple[str, ...], root: str) -> tuple[str, ...]:
    """Notes on what is left over of a file that is otherwise whole."""
    notes = []
    unused = [name for name in left_over if name.startswith(f"{root}fs2.")]
    if unused:
        notes.append(
            f"{len(unused)} of the names left over, {root}fs2.*, are parts of FastSpeech2 that "
            f"conversion does not use (predictors, mel_out)."
        )
    derived = [name for name in left_over if name.startswith(root) and name.count(".") == 1]
    if derived:
        notes.append(
            f"{len(derived)} of the names left over are buffers that follow from its betas."
        )
    return tuple(notes)
