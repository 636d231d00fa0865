"""The extractors that a model was trained with, rebuilt on this machine."""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from svc.checkpoints.facts import CheckpointFacts
from svc.config.instantiate import build, locate, require_own_target
from svc.errors import UserError
from svc.inference.analysis import Extractors


def build_extractors(
    facts: CheckpointFacts, device: torch.device, content_model: str | None = None
) -> Extractors:
    """Content, pitch and energy as a checkpoint describes them.

    Args:
        facts: of the checkpoint; only parts of svc itself are built.
        device: for those that ask for one, in place of the training's.
        content_model: where the weights of the content encoder lie, where that is not the place
            that the training had them in.

    Raises:
        KeyError: the configuration lacks one of them.
        UserError: weights are missing, or are not those that the training used.
    """
    nodes = {
        name: _on_this_machine(
            _as_extracted(name, facts.config[name], facts.features.get(name)), device
        )
        for name in ("content", "pitch", "energy")
    }
    nodes["content"] = _with_model(nodes["content"], content_model)
    try:
        content = build(nodes["content"], trusted=False)
    except UserError as error:
        if "model" not in nodes["content"]:
            raise
        raise UserError(
            f"{error}\nTo convert, content_model=FOLDER (or FILE) says where the weights that the "
            f"model was trained with lie now."
        ) from error
    pitch = build(nodes["pitch"], trusted=False)
    _require_same_weights(
        content,
        facts.features.get("content"),
        f"content={nodes['content'].get('model') or 'the encoder'}",
        "Give content_model=FOLDER (or FILE) with the model that was used in training.",
    )
    _require_same_weights(
        pitch,
        facts.features.get("pitch"),
        "the pitch tracker",
        "Install the version of it that was used in training.",
    )
    return Extractors(content, pitch, build(nodes["energy"], trusted=False))


def _as_extracted(
    group: str, node: Mapping[str, Any], recorded: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A node with the arguments that the training data was extracted with, those at their default
    too: defaults get better, and a model must not notice."""
    require_own_target(str(node["_target_"]), group)
    taken = inspect.signature(locate(str(node["_target_"]))).parameters
    arguments = {
        name: value
        for name, value in (recorded or {}).items()
        if name in taken and isinstance(value, str | int | float | bool | None)
    }
    return {**node, **arguments}


def _with_model(node: dict[str, Any], content_model: str | None) -> dict[str, Any]:
    """The encoder's settings, with its weights elsewhere where that is said."""
    if content_model is not None and "model" not in node:
        raise UserError(
            f"content_model={content_model}: the content encoder of this checkpoint "
            f"({node.get('_target_')}) has no weights; leave content_model out."
        )
    model = node.get("model") if content_model is None else content_model
    if model is None:  # no weights at all, or those that the registry names
        return node
    if _is_path(str(model)) and not Path(model).expanduser().exists():
        where = (
            "where they were in training"
            if content_model is None
            else "for there is no folder or file"
        )
        raise UserError(
            f"The content encoder's weights are not in {model}, {where}. Give content_model=FOLDER "
            f"(or FILE) with the model that was used in training."
        )
    return {**node, "model": str(model)}


def _is_path(model: str) -> bool:
    """Whether it can only be a path, not the name of a model to fetch."""
    return Path(model).is_absolute() or model.startswith((".", "~")) or model.count(os.sep) > 1


def _require_same_weights(
    part: Any, recorded: Mapping[str, Any] | None, what: str, advice: str
) -> None:
    """Refuse a part that makes other features than those that the model was trained on."""
    present: dict[str, str] = part.identity() if hasattr(part, "identity") else {}
    for name, value in present.items():
        wanted = (recorded or {}).get(name, value)
        if wanted != value:
            raise UserError(
                f"{what} is not what the model was trained with: its {name} is {value}, but the "
                f"checkpoint was trained with {wanted}. {advice}"
            )


def _on_this_machine(node: Any, device: torch.device) -> Any:
    """An extractor's settings, and those of parts inside it, for here and now.

    The device is this machine's, and so is whether weights may be fetched (SVC_OFFLINE). Weights
    that lay elsewhere in training are those that the registry names, where the part has such;
    whether they are the same is seen by their hash.
    """
    if isinstance(node, list):
        return [_on_this_machine(item, device) for item in node]
    if not isinstance(node, Mapping):
        return node
    here = {key: _on_this_machine(value, device) for key, value in node.items()}
    if "_target_" not in here:
        return here
    if "device" in here:
        here["device"] = device.type
    if "offline" in here:
        here["offline"] = False
        model = here.get("model")
        if isinstance(model, str) and not Path(model).expanduser().exists():
            here["model"] = None
    return here
