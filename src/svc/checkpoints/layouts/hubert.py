"""The published layouts of HuBERT weights, and the one form that svc runs.

HuBERT base (Hsu et al. 2021) is one network under several sets of names, which
`svc.checkpoints.layouts.hubert_names` lists. Here the names are those of fairseq2's modules, below
`frontend.` and `encoder.`, and `projection.` for the final projection. The positional convolution's
weight norm, of which torch has an old and a new spelling, is folded.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from svc.checkpoints.layouts.hubert_names import HUBERT_LAYOUTS, HubertNames
from svc.errors import UserError, UserErrors
from svc.models.hubert_weights import (
    CONVOLUTIONS,
    HEAD_CHANNELS,
    HubertShape,
    HubertWeights,
    expected_tensors,
)

_MAX_FAULTS = 12
"""Names of tensors shown before the rest is only counted."""
_PREFIXES = ("module.", "hubert.")
_WEIGHT_NORM_NAMES = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def convert_hubert(
    published: dict[str, Tensor], layer: int, projection: bool, file: Path
) -> HubertWeights:
    """Weights of any of the published layouts, in svc's form.

    Args:
        published: a state dict, as `read_state_dict` gives it.
        layer: the last transformer layer that is used, counted from 1; later ones are left out.
        projection: whether the final projection is used.
        file: where the weights came from, for messages.

    Raises:
        UserError: they are in none of the layouts, or have too few layers.
        UserErrors: tensors are missing, left over or of a wrong shape; each is named.
    """
    found = _without_prefixes(published)
    layout = _layout_of(found)
    if layout is None:
        raise UserError(
            f"{file} is in none of the known layouts of HuBERT: expected a tensor "
            f"{' or '.join(x.convolution.format(0) for x in HUBERT_LAYOUTS)}, found "
            f"{', '.join(sorted(found)[:6])}, ... ({len(found)} in all)."
        )
    layers = _layers_in(found, layout)
    if not 1 <= layer <= layers:
        raise UserError(f"content.layer={layer} is not in {file}, which has layers 1 to {layers}.")
    names = dict(_names(layout, layers))
    split = _split_attention(found, layout, layers)
    position, spelling_names = _folded_position(split, layout)
    shape = _shape(split, layout, layer, projection, position, file)
    tensors = {ours: split[theirs] for ours, theirs in names.items() if theirs in split}
    tensors["frontend.pos_encoder.conv.weight"] = position
    known = set(names.values()) | spelling_names
    _check(tensors, shape, names, layout, set(split) - known, file)
    wanted = dict(expected_tensors(shape))
    return HubertWeights(
        layout=layout.name,
        shape=shape,
        tensors={name: tensors[name].float().contiguous() for name in wanted},
        used=_used({names[n] for n in wanted if n in names} | spelling_names, published, layout),
    )


def hubert_layout_in(published: Mapping[str, Tensor]) -> tuple[str, int, bool] | None:
    """Name of the layout, number of transformer layers, and whether there is a final projection;
    None where the weights are no HuBERT's."""
    found = _without_prefixes(published)
    layout = _layout_of(found)
    if layout is None:
        return None
    return layout.name, _layers_in(found, layout), f"{layout.projection}.weight" in found


def _layout_of(found: Mapping[str, Tensor]) -> HubertNames | None:
    return next((x for x in HUBERT_LAYOUTS if x.convolution.format(0) in found), None)


def _layers_in(found: Mapping[str, Tensor], layout: HubertNames) -> int:
    layers = 0
    while any(name.startswith(layout.layer.format(layers)) for name in found):
        layers += 1
    return layers


def _used(names: set[str], published: Mapping[str, Tensor], layout: HubertNames) -> tuple[str, ...]:
    """The published names, prefixes and all, of tensors that are used; of queries, keys and values
    in one that one."""
    if layout.fused_attention:
        split = re.compile(r"self_attn\.[qkv]_proj\.")
        names = {split.sub(layout.fused_attention, name) for name in names}
    return tuple(name for name in published if _without_prefix(name) in names)


def _without_prefixes(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without `module.` (training on several GPUs) and `hubert.` (a task's model)."""
    return {_without_prefix(name): tensor for name, tensor in published.items()}


def _without_prefix(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _names(layout: HubertNames, layers: int) -> Iterator[tuple[str, str]]:
    """Our name and the layout's, of every tensor but the weight-normed one."""
    for ours, place in CONVOLUTIONS:
        yield ours, layout.convolution.format(place)
    modules = {
        "frontend.feature_extractor.layers.0.group_norm": layout.group_norm,
        "frontend.post_extract_layer_norm": layout.feature_norm,
        "frontend.model_dim_proj": layout.feature_projection,
        "frontend.layer_norm": layout.norm,
        "projection": layout.projection,
    }
    parts = layout.attention | layout.rest_of_layer
    if layout.fused_attention:
        parts = {f"self_attn.{x}_proj": f"self_attn.{x}_proj" for x in "qkv"} | parts
    for i in range(layers):
        for ours, theirs in parts.items():
            modules[f"encoder.layers.{i}.{ours}"] = layout.layer.format(i) + theirs
    yield "frontend.pos_encoder.conv.bias", f"{layout.position}.bias"
    for ours, theirs in modules.items():
        for kind in ("weight", "bias"):
            yield f"{ours}.{kind}", f"{theirs}.{kind}"


def _split_attention(
    found: dict[str, Tensor], layout: HubertNames, layers: int
) -> dict[str, Tensor]:
    """Queries, keys and values apart, where the layout has them in one."""
    split = dict(found)
    if layout.fused_attention is None:
        return split
    for i in range(layers):
        for kind in ("weight", "bias"):
            fused = split.pop(layout.layer.format(i) + layout.fused_attention + kind, None)
            if fused is not None:
                for letter, part in zip("qkv", fused.tensor_split(3), strict=True):
                    split[layout.layer.format(i) + f"self_attn.{letter}_proj.{kind}"] = part
    return split


def _folded_position(found: dict[str, Tensor], layout: HubertNames) -> tuple[Tensor, set[str]]:
    """The positional convolution's weight [C, C / groups, kernel], and the names it came from.

    Its norm is per tap, over both widths (`weight_norm` with dim 2).
    """
    plain = f"{layout.position}.weight"
    if plain in found:  # some converters fold it
        return found[plain].float(), {plain}
    for magnitude, direction in _WEIGHT_NORM_NAMES:
        names = [f"{layout.position}.{magnitude}", f"{layout.position}.{direction}"]
        if all(name in found for name in names):
            g, v = (found[name].float() for name in names)
            if v.dim() == 3 and g.shape == (1, 1, v.shape[2]):
                return torch._weight_norm(v, g, 2), set(names)
    return torch.empty(0), set()


def _shape(
    found: dict[str, Tensor],
    layout: HubertNames,
    layer: int,
    projection: bool,
    position: Tensor,
    file: Path,
) -> HubertShape:
    """The sizes, as the tensors tell them."""
    first = layout.layer.format(0)
    telling = {
        "features": f"{layout.feature_projection}.weight",
        "inner": f"{first}{layout.rest_of_layer['ffn.inner_proj']}.weight",
    }
    if projection:
        telling["projection"] = f"{layout.projection}.weight"
    missing = [name for name in telling.values() if name not in found or found[name].dim() != 2]
    if not position.numel():
        missing.append(f"{layout.position}.weight_g and .weight_v (or the newer spelling)")
    if missing:
        raise UserError(
            f"{file} ({layout.name} layout) does not hold {', '.join(missing)} as expected; found "
            f"{len(found)} tensors, among them {', '.join(sorted(found)[:6])}."
        )
    channels, convolution_channels = found[telling["features"]].shape
    return HubertShape(
        convolution_channels=convolution_channels,
        channels=channels,
        inner_channels=found[telling["inner"]].shape[0],
        layers=layer,
        position_kernel=position.shape[2],
        position_groups=max(1, channels // position.shape[1]),
        projected_channels=found[telling["projection"]].shape[0] if projection else None,
    )


def _check(
    tensors: dict[str, Tensor],
    shape: HubertShape,
    names: dict[str, str],
    layout: HubertNames,
    left_over: set[str],
    file: Path,
) -> None:
    """Every tensor that is used is there in its shape, and none is left that nobody knows."""
    faults = []
    for name, size in expected_tensors(shape):
        shown = names.get(name, f"{layout.position}.weight")
        if name not in tensors:
            faults.append(f"{shown} is missing; expected {list(size)}")
        elif tensors[name].shape != size:
            faults.append(f"{shown} is {list(tensors[name].shape)}; expected {list(size)}")
    faults += [
        f"{name} is not part of this network"
        for name in sorted(left_over)
        if not name.startswith(layout.unused)
    ]
    if shape.channels % HEAD_CHANNELS:
        faults.append(f"width {shape.channels} is no multiple of {HEAD_CHANNELS}")
    if faults:
        more = len(faults) - _MAX_FAULTS
        raise UserErrors(
            f"{file} does not hold the weights of HuBERT base in the {layout.name} layout:",
            faults[:_MAX_FAULTS] + ([f"and {more} more"] if more > 0 else []),
        )
