"""Published weights of what listens: HuBERT and its relatives, and RMVPE."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from svc.checkpoints.atomic_io import write_safetensors
from svc.checkpoints.layouts.base import KeyReport, LayoutOptions
from svc.checkpoints.layouts.hubert import convert_hubert, hubert_layout_in
from svc.checkpoints.layouts.rmvpe import rmvpe_of
from svc.checkpoints.published import require_finite
from svc.config.composition import composed
from svc.errors import UserError
from svc.models.hubert_module import HubertModule

RMVPE = "rmvpe"
_HUBERTS = ("hubert_soft", "contentvec", "contentvec_768", "hubert_base", "chinese_hubert")
"""Options of the group content that are HuBERTs."""


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that a content encoder or a pitch tracker runs."""

    kind: str
    """`rmvpe`, or the option of the group content that it serves."""
    module: nn.Module
    """In eval mode. A HuBERT takes audio [B, T] at 16 kHz and gives content [B, N, C]; RMVPE takes
    log mels [B, 128, N] and gives salience [B, N, 360]."""
    config: dict[str, Any]
    """The group that uses it, `content` or `pitch`, with the file as its `model`."""
    weights: Mapping[str, Tensor]
    """Those that are used, under their published names."""
    report: KeyReport


def feature_network_in(
    weights: dict[str, Tensor], path: Path, options: LayoutOptions
) -> FeatureNetwork | None:
    """The feature network in a file; None where it holds something else.

    Args:
        weights: read from `path`.
        path: of the file.
        options: what it does not say about itself.

    Raises:
        UserError: it is a network of this kind that is not whole.
    """
    is_rmvpe = "cnn.weight" in weights and any(n.startswith("unet.encoder.") for n in weights)
    if not is_rmvpe and hubert_layout_in(weights) is None:
        return None
    require_finite(weights, path)
    return _rmvpe(weights, path) if is_rmvpe else _hubert(weights, path, options)


def write_feature_network(network: FeatureNetwork, output: Path, precision: str = "fp32") -> None:
    """Write the weights that are used as safetensors, which `content.model` or `pitch.model` take.

    Args:
        network: read from a published file.
        output: file to write; its folder is made.
        precision: "fp32", or "fp16" for matrices and kernels.

    Raises:
        UserError: a weight is too large for fp16, or the file cannot be written.
    """
    if precision not in ("fp32", "fp16"):
        raise UserError(f"precision={precision}: choose one of fp32, fp16.")
    tensors = {name: _stored(weight, precision) for name, weight in network.weights.items()}
    require_finite(tensors, output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(output, tensors, {"format": "pt"})
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}.") from error


def _stored(weight: Tensor, precision: str) -> Tensor:
    if not weight.is_floating_point():
        return weight.contiguous()
    half = precision == "fp16" and weight.ndim > 1
    return weight.to(torch.float16 if half else torch.float32).contiguous()


def _rmvpe(weights: dict[str, Tensor], path: Path) -> FeatureNetwork:
    module = rmvpe_of(weights, path).eval().requires_grad_(False)
    return FeatureNetwork(
        kind=RMVPE,
        module=module,
        config=_group("pitch", RMVPE, {"model": str(path)}),
        weights=weights,
        report=KeyReport(used=tuple(weights)),  # it is refused where anything else is in the file
    )


def _hubert(weights: dict[str, Tensor], path: Path, options: LayoutOptions) -> FeatureNetwork:
    found = hubert_layout_in(weights)
    assert found is not None
    layout, layers, projected = found
    choice, notes = _content(layout, projected, options)
    node = _group("content", choice, {"model": str(path)})["content"]
    if node["layer"] > layers:
        notes.append(f"It has {layers} layers; the last one is used (content.layer={layers}).")
    told = {
        "model": str(path),
        "layer": min(node["layer"], layers),
        "projection": node["projection"] and projected,
    }
    converted = convert_hubert(weights, told["layer"], told["projection"], path)
    left_over = tuple(name for name in weights if name not in set(converted.used))
    if left_over:
        notes.append(
            f"What is left over is of layers beyond {told['layer']}, or of use in training only."
        )
    return FeatureNetwork(
        kind=choice,
        module=HubertModule(converted, node["padding_samples"]),
        config=_group("content", choice, told),
        weights={name: weights[name] for name in converted.used},
        report=KeyReport(used=converted.used, left_over=left_over, notes=tuple(notes)),
    )


def _content(layout: str, projected: bool, options: LayoutOptions) -> tuple[str, list[str]]:
    """The option of the group content that a HuBERT serves, and notes."""
    if options.content is not None:
        if options.content not in _HUBERTS:
            raise UserError(
                f"options.content={options.content}: the file holds a HuBERT, which serves "
                f"content={', '.join(_HUBERTS)}."
            )
        return options.content, []
    if layout == "bshall":
        return "hubert_soft", []
    choice = "contentvec" if projected else "hubert_base"
    others = ", ".join(other for other in _HUBERTS if other != choice)
    return choice, [
        f"content={choice} is assumed, since it is a HuBERT {'with' if projected else 'without'} "
        f"a final projection; options.content=… names another: {others}."
    ]


def _group(group: str, choice: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The node of an option, with other settings."""
    return {group: composed("train", {group: choice}, {group: settings})[group]}
