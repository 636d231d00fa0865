"""HiFi-GAN's discriminators, as fish-diffusion's and openvpi's training checkpoints hold them.

Names: `mpd.discriminators.{i}.convs.{j}` and `.conv_post`, the same under `msd.`. The first scale
is spectrally normed, everything else weight-normed. Periods are not in the weights.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from svc.checkpoints.layouts.published_weights import PublishedWeights
from svc.models.discriminators import Discriminators
from svc.models.period_discriminator import MultiPeriodDiscriminator
from svc.models.scale_discriminator import PUBLISHED_LAYERS, MultiScaleDiscriminator

KNOWN_PERIODS = {5: (2, 3, 5, 7, 11), 7: (3, 5, 7, 11, 17, 23, 37)}
"""By their number: HiFi-GAN's, and those of the 44.1 kHz models."""

_PREFIXES = ("", "discriminator.")
_LAYER = re.compile(r"(periods\.periods|scales\.scales)\.(\d+)\.(?:layers\.(\d+)|output)")


@dataclass(frozen=True)
class FoundDiscriminators:
    """Discriminators for `svc.models.discriminators.Discriminators`; empty where there are none
    that fit."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Of the configuration `arch.discriminator`."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    """Complete, under our names."""
    used: tuple[str, ...] = ()
    """Published names."""
    notes: tuple[str, ...] = ()


def find_discriminators(
    published: Mapping[str, Tensor], periods: Sequence[int] | None = None
) -> FoundDiscriminators:
    """The multi-period and the multi-scale discriminator in a training checkpoint.

    A generator is of use without them, so that those that do not fit are left out, with a note.

    Args:
        published: names to weights.
        periods: of the multi-period discriminator; None takes the known ones of their number.
    """
    for prefix in _PREFIXES:
        weights = PublishedWeights(published, prefix)
        if weights.has("mpd"):
            return _translated(weights, periods)
    return FoundDiscriminators()


def published_layer(layer: str) -> str:
    """The published name of a layer of ours."""
    found = _LAYER.fullmatch(layer)
    if found is None:
        raise ValueError(f"{layer} is no layer of a discriminator")
    kind = "mpd" if found[1].startswith("periods") else "msd"
    inner = "conv_post" if found[3] is None else f"convs.{found[3]}"
    return f"{kind}.discriminators.{found[2]}.{inner}"


def _translated(weights: PublishedWeights, periods: Sequence[int] | None) -> FoundDiscriminators:
    count = weights.count("mpd.discriminators.{}")
    known = KNOWN_PERIODS.get(count) if periods is None else tuple(periods)
    layers = weights.count("mpd.discriminators.0.convs.{}")
    shapes = [weights.shape(f"mpd.discriminators.0.convs.{layer}") for layer in range(layers)]
    if known is None or len(known) != count or not shapes or None in shapes:
        return _left_out(f"there are {count}, and their periods are not known")
    channels = [shape[0] for shape in shapes if shape is not None]
    settings: dict[str, Any] = {
        "periods": {"periods": list(known), "channels": channels},
        "scales": None,
    }
    scales = weights.count("msd.discriminators.{}")
    first = weights.shape("msd.discriminators.0.convs.0")
    if scales and first is not None:
        settings["scales"] = {"scales": scales, "width": first[0] / PUBLISHED_LAYERS[0].channels}
    with torch.device("meta"):
        try:
            template = Discriminators(
                MultiPeriodDiscriminator(**settings["periods"]),
                MultiScaleDiscriminator(**settings["scales"]) if settings["scales"] else None,
            )
        except ValueError as error:
            return _left_out(str(error))
    filled = weights.fill(template.state_dict(), published_layer)
    if weights.faults:
        return _left_out(weights.faults[0])
    return FoundDiscriminators(settings, filled, weights.report().used)


def _left_out(reason: str) -> FoundDiscriminators:
    return FoundDiscriminators(
        notes=(f"The discriminators are of another kind and are left out: {reason}.",)
    )
