"""The published DiffSVC denoiser's names of weights, in ours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_PLAIN = {
    "input_projection.conv": "backbone.input",
    "skip_projection.conv": "backbone.skip",
    "output_projection.conv": "backbone.output",
    "mlp.0.linear": "step_mlp.0",
    "mlp.2.linear": "step_mlp.2",
}
_OF_A_LAYER = {
    "conv_layer.conv": "backbone.blocks.{}.dilated",
    "output_projection.conv": "backbone.blocks.{}.output",
}
_STACKED = {
    "conditioner_projection.conv": "backbone.condition",
    "diffusion_projection.linear": "step_projection",
}
"""One of each layer there, one for all layers here, stacked in the order of the layers."""
_LAYER = re.compile(r"residual_layers\.(\d+)\.(.+)")


@dataclass(frozen=True)
class TranslatedWeights:
    """Weights under our names, and what became of the published ones."""

    state_dict: dict[str, Tensor]
    """Ours. Complete exactly where `missing` is empty."""
    used: tuple[str, ...]
    """Published names whose weights are in it."""
    missing: tuple[str, ...]
    """Published names that should be there and are not."""
    left_over: tuple[str, ...]
    """Published names that mean nothing here."""


def translate_denoiser(published: Mapping[str, Tensor], prefix: str = "") -> TranslatedWeights:
    """A published WaveNet denoiser for `svc.models.denoiser.MelDenoiser`.

    Args:
        published: names to weights, of any dtype.
        prefix: what stands before the denoiser's own names, such as `model.diffusion.denoise_fn.`;
            other names are ignored, and are not among the names that are left over.
    """
    weights = {n.removeprefix(prefix): w for n, w in published.items() if n.startswith(prefix)}
    numbers = [int(found[1]) for name in weights if (found := _LAYER.fullmatch(name))]
    layers = max(numbers, default=0) + 1
    with_bias = any(name.endswith("linear.bias") for name in weights)
    state_dict: dict[str, Tensor] = {}
    expected: list[str] = []
    for ours, theirs in _sources(layers, with_bias).items():
        expected += theirs
        if all(name in weights for name in theirs):
            parts = [weights[name] for name in theirs]
            state_dict[ours] = torch.cat(parts) if len(parts) > 1 else parts[0]
    return TranslatedWeights(
        state_dict=state_dict,
        used=tuple(prefix + name for name in expected if name in weights),
        missing=tuple(prefix + name for name in expected if name not in weights),
        left_over=tuple(prefix + name for name in weights if name not in set(expected)),
    )


def _sources(layers: int, with_bias: bool) -> dict[str, list[str]]:
    """Our names -> the published ones, in the order in which they are stacked."""
    ours_theirs = {ours: [theirs] for theirs, ours in _PLAIN.items()}
    for theirs, ours in _OF_A_LAYER.items():
        for layer in range(layers):
            ours_theirs[ours.format(layer)] = [f"residual_layers.{layer}.{theirs}"]
    for theirs, ours in _STACKED.items():
        ours_theirs[ours] = [f"residual_layers.{layer}.{theirs}" for layer in range(layers)]
    return {
        f"{ours}.{kind}": [f"{name}.{kind}" for name in theirs]
        for ours, theirs in ours_theirs.items()
        for kind in ("weight", "bias")
        if kind == "weight" or with_bias or not theirs[0].endswith("linear")
    }
