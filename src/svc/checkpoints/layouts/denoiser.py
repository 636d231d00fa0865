"""The published DiffSVC denoisers' names of weights, in ours.

One network under two spellings: fish-diffusion keeps every layer in a wrapper (`….conv.weight`,
`….linear.weight`), the original diff-svc does not, and calls the dilated convolution another name.
"""

import re
from collections.abc import Callable, Mapping
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
_LINEAR_BIAS = re.compile(
    r"(mlp\.[02]|residual_layers\.\d+\.diffusion_projection)(\.linear)?\.bias"
)
_UNWRAPPED = ".dilated_conv."
"""What only the spelling without wrappers has."""
_MOST_LAYERS = 1000
"""A file may name any number; what is missing is listed."""


@dataclass(frozen=True)
class DenoiserSize:
    """What the weights of a denoiser tell about it; dilations they do not."""

    mel_bins: int
    channels: int
    condition_channels: int
    layers: int
    kernel: int
    """Of the dilated convolutions."""
    linear_bias: bool
    """Whether the layers that process the time have a bias."""


@dataclass(frozen=True)
class TranslatedWeights:
    """Weights under our names, and what became of the published ones."""

    state_dict: dict[str, Tensor]
    """Ours. Complete exactly where `missing` and `misshapen` are empty."""
    used: tuple[str, ...]
    """Published names whose weights are in it."""
    missing: tuple[str, ...]
    """Published names that should be there and are not."""
    left_over: tuple[str, ...]
    """Published names that mean nothing here."""
    misshapen: tuple[str, ...]
    """Published names whose shapes do not agree with those of the others, with both shapes."""
    size: DenoiserSize | None
    """None where the weights that tell it are missing or have another number of dimensions."""


def translate_denoiser(published: Mapping[str, Tensor], prefix: str = "") -> TranslatedWeights:
    """A published WaveNet denoiser for `svc.models.denoiser.MelDenoiser`.

    Args:
        published: names to weights, of any dtype.
        prefix: what stands before the denoiser's own names, such as `model.diffusion.denoise_fn.`;
            other names are ignored, and are not among the names that are left over.
    """
    weights = {n.removeprefix(prefix): w for n, w in published.items() if n.startswith(prefix)}
    spelled = _without_wrapper if any(_UNWRAPPED in name for name in weights) else _wrapped
    numbers = [int(found[1]) for name in weights if (found := _LAYER.fullmatch(name))]
    layers = min(max(numbers, default=0) + 1, _MOST_LAYERS)
    with_bias = any(_LINEAR_BIAS.fullmatch(name) for name in weights)
    size = _size(weights, spelled, layers, with_bias)
    shapes = {} if size is None else _shapes(size)
    state_dict: dict[str, Tensor] = {}
    expected: list[str] = []
    misshapen: list[str] = []
    for ours, wrapped in _sources(layers, with_bias).items():
        theirs = [spelled(name) for name in wrapped]
        expected += theirs
        there = {name: weights[name] for name in theirs if name in weights}
        wrong = {n: w for n, w in there.items() if tuple(w.shape) != shapes.get(ours, w.shape)}
        misshapen += [
            f"{prefix}{name} is {list(weight.shape)}; expected {list(shapes[ours])}"
            for name, weight in wrong.items()
        ]
        if len(there) == len(theirs) and not wrong:
            parts = list(there.values())
            state_dict[ours] = torch.cat(parts) if len(parts) > 1 else parts[0]
    return TranslatedWeights(
        state_dict=state_dict,
        used=tuple(prefix + name for name in expected if name in weights),
        missing=tuple(prefix + name for name in expected if name not in weights),
        left_over=tuple(prefix + name for name in weights if name not in set(expected)),
        misshapen=tuple(misshapen),
        size=size,
    )


def _wrapped(name: str) -> str:
    """As fish-diffusion spells it."""
    return name


def _without_wrapper(name: str) -> str:
    """As the original diff-svc spells what fish-diffusion calls `name`; `.weight` may follow."""
    name = name.replace(".conv_layer.conv", _UNWRAPPED.rstrip("."))
    return re.sub(r"\.(conv|linear)(?=$|\.)", "", name)


def _size(
    weights: Mapping[str, Tensor], spelled: Callable[[str], str], layers: int, with_bias: bool
) -> DenoiserSize | None:
    telling = [
        weights.get(spelled(name) + ".weight")
        for name in (
            "input_projection.conv",
            "residual_layers.0.conv_layer.conv",
            "residual_layers.0.conditioner_projection.conv",
        )
    ]
    if any(weight is None or weight.ndim != 3 for weight in telling):
        return None
    entry, dilated, condition = (tuple(weight.shape) for weight in telling if weight is not None)
    return DenoiserSize(
        mel_bins=entry[1],
        channels=entry[0],
        condition_channels=condition[1],
        layers=layers,
        kernel=dilated[2],
        linear_bias=with_bias,
    )


def _shapes(size: DenoiserSize) -> dict[str, tuple[int, ...]]:
    """Our names -> the shape of each published weight that becomes part of them."""
    c, m = size.channels, size.mel_bins
    modules: dict[str, tuple[int, ...]] = {
        "backbone.input": (c, m, 1),
        "backbone.skip": (c, c, 1),
        "backbone.output": (m, c, 1),
        "backbone.condition": (2 * c, size.condition_channels, 1),
        "step_mlp.0": (4 * c, c),
        "step_mlp.2": (c, 4 * c),
        "step_projection": (c, c),
    }
    for layer in range(size.layers):
        modules[f"backbone.blocks.{layer}.dilated"] = (2 * c, c, size.kernel)
        modules[f"backbone.blocks.{layer}.output"] = (2 * c, c, 1)
    return {
        f"{name}.{kind}": shape if kind == "weight" else shape[:1]
        for name, shape in modules.items()
        for kind in ("weight", "bias")
    }


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
