"""The vocoder that a DiffSVC file may carry beside the model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from svc.checkpoints.layouts.base import LayoutOptions
from svc.checkpoints.layouts.nsf_hifigan import translate_generator
from svc.checkpoints.layouts.vocoder_config import read_vocoder_config
from svc.errors import UserError

_LAST_LAYER = "conv_post.bias"
"""Not normed, so that every generator has a weight of this very name."""


@dataclass(frozen=True)
class VocoderInside:
    """A vocoder in our terms."""

    choice: str
    """Option of the group vocoder."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Nested settings, `vocoder` and below."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """Under the names of our module."""
    used: tuple[str, ...] = ()
    """Published names."""
    notes: tuple[str, ...] = ()


def vocoder_inside(
    state: Mapping[str, Tensor], options: LayoutOptions, mel_bins: int
) -> VocoderInside:
    """The vocoder of a DiffSVC file, below `vocoder.`; griffin_lim where it has none.

    Raises:
        UserError: there is one that svc cannot build, or for other mels; names what is wrong.
    """
    last = next(
        (n for n in state if n.startswith("vocoder.") and n.endswith(f".{_LAST_LAYER}")), None
    )
    if last is None:
        return VocoderInside(
            "griffin_lim",
            notes=(
                "It carries no vocoder: vocoder=griffin_lim stands in, which is for tests only. "
                "Give svc-infer vocoder=FILE, a vocoder of the mel audio=openvpi.",
            ),
        )
    prefix = last.removesuffix(_LAST_LAYER)
    config = None if options.vocoder_config is None else read_vocoder_config(options.vocoder_config)
    generator = translate_generator(state, prefix, config)
    if generator.settings["mel_bins"] != mel_bins:
        raise UserError(
            f"The vocoder in the file ({prefix}*) renders mels of "
            f"{generator.settings['mel_bins']} bins, but its model makes {mel_bins}."
        )
    return VocoderInside(
        "nsf_hifigan",
        settings={"vocoder": {**generator.settings, "f0_upsampling": "zeroed"}},
        weights=generator.weights,
        used=generator.report.used,
        notes=(f"It carries its vocoder, {prefix}*.", *generator.report.notes),
    )
