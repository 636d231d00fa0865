"""What the configurations of other trainers say that their weights do not.

fish-diffusion's (`model`, `preprocessing`, `speaker_mapping`), as a whole or its `model` alone, and
diff-svc's `config.yaml`.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from svc.checkpoints.layouts.base import LayoutOptions

_CONTENT = {
    "contentvec": "contentvec",
    "hubertsoft": "hubert_soft",
    "chinesehubertsoft": "chinese_hubert",
    "hubert_soft": "hubert_soft",
}
_PITCH = {
    "parselmouthpitchextractor": "parselmouth",
    "crepepitchextractor": "crepe",
    "diopitchextractor": "dio",
    "harvestpitchextractor": "harvest",
    "rmvpepitchextractor": "rmvpe",
    "parselmouth": "parselmouth",
    "harvest": "harvest",
}
_MARKS = ("model", "diffusion", "text_encoder", "speaker_mapping", "dilation_cycle_length")


def is_training_config(config: Mapping[str, Any]) -> bool:
    """Whether a mapping looks like the configuration of another trainer."""
    return any(mark in config for mark in _MARKS)


def options_of_config(config: Mapping[str, Any]) -> LayoutOptions:
    """What a configuration says; None for what it does not, or says in a way that is not known."""
    model = _mapping(config.get("model")) or config
    features = _mapping(config.get("preprocessing"))
    denoiser = _mapping(_mapping(model.get("diffusion")).get("denoiser"))
    cycle = denoiser.get("dilation_cycle", config.get("dilation_cycle_length"))
    content = _named(features.get("text_features_extractor"), _CONTENT)
    pitch = _named(features.get("pitch_extractor", config.get("pitch_extractor")), _PITCH)
    return LayoutOptions(
        content=content,
        pitch=pitch,
        speakers=_speakers(config.get("speaker_mapping")),
        dilation_cycle=cycle if type(cycle) is int and cycle > 0 else None,
        pitch_encoding=_pitch_encoding(_mapping(model.get("pitch_encoder")).get("preprocessing")),
    )


def filled(options: LayoutOptions, known: LayoutOptions) -> LayoutOptions:
    """`options`, with what is known in the place of what they leave open."""
    return replace(
        options,
        **{
            field.name: getattr(known, field.name)
            for field in fields(options)
            if getattr(options, field.name) is None
        },
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _named(part: Any, options: Mapping[str, str]) -> str | None:
    """The option that stands for the class which a part of a configuration names."""
    if isinstance(part, Mapping):
        part = part.get("type", part.get("_target_"))
    return options.get(str(part).rpartition(".")[2].lower())


def _pitch_encoding(preprocessing: Any) -> str | None:
    """`pitch_to_log`, or a `_target_` that ends like it."""
    if isinstance(preprocessing, Mapping):
        preprocessing = preprocessing.get("_target_")
    name = str(preprocessing).rpartition(".")[2].removeprefix("pitch_to_")
    return name if name in ("scale", "log", "coarse") else None


def _speakers(mapping: Any) -> tuple[str, ...] | None:
    """Names in the order of their numbers, where those count through."""
    names = {index: str(name) for name, index in _mapping(mapping).items() if type(index) is int}
    if not names or sorted(names) != list(range(len(names))):
        return None
    return tuple(names[index] for index in range(len(names)))
