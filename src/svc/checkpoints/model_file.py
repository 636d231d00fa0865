"""One way into every file that holds a model: training checkpoints, slim files, published ones."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from svc.audio.spec import AudioSpec
from svc.checkpoints.adapter_file import is_adapter
from svc.checkpoints.facts import CheckpointFacts
from svc.checkpoints.layouts.base import KeyReport, LayoutOptions, PublishedModel
from svc.checkpoints.slim_file import is_slim, read_metadata, read_slim
from svc.checkpoints.training_checkpoint import (
    discriminator_in,
    facts_in,
    generator_in,
    own_checkpoint,
)
from svc.config.composition import composed
from svc.config.instantiate import build
from svc.errors import UserError

OWN_KIND = "svc"
"""Kind of a file that svc itself wrote."""

_OF_A_MACHINE = ("paths", "logger", "callbacks", "resume")
"""Settings that say where a run lies and what it reports, not what its model is."""


@dataclass(frozen=True)
class ModelFile:
    """A model out of a file, in our terms."""

    path: Path
    facts: CheckpointFacts
    """With a configuration as `svc-train` would run with."""
    generator: Mapping[str, Tensor]
    """Weights of what `arch.generator` builds; what LoRA learned is in them."""
    discriminator: Mapping[str, Tensor] = field(default_factory=dict)
    """Weights of `arch.discriminator`, where the file holds them and they were asked for."""
    report: KeyReport | None = None
    """What became of the names in a published file; None for our own files."""
    kind: str = OWN_KIND
    """Name of the published layout, or `OWN_KIND`."""


def read_model_file(
    path: Path,
    options: LayoutOptions | None = None,
    *,
    with_discriminator: bool = True,
) -> ModelFile:
    """The model in a file, recognised by what it holds. Nothing from the file is executed.

    Args:
        path: a checkpoint of `svc-train` (its averaged weights are read), a file of `svc-export`
            or `svc-convert-checkpoint`, or a published checkpoint of a layout that svc knows.
        options: what a published file does not say about itself; ours say everything.
        with_discriminator: read the judges of a GAN too, where they are there.

    Raises:
        UserError: no such file, not a model, cut short, damaged, from a newer version, of a layout
            that svc does not know, or with weights that are NaN or infinite.
    """
    from svc.checkpoints.published import read_published

    own = own_model(path, with_discriminator=with_discriminator)
    if own is not None:
        return own
    published = read_published(path, options)
    return model_of_published(published, path, with_discriminator=with_discriminator)


def own_model(path: Path, *, with_discriminator: bool = True) -> ModelFile | None:
    """The model in a file that svc wrote; None where others did.

    Args:
        path: see `read_model_file`.
        with_discriminator: read the judges of a GAN too, where they are there.

    Raises:
        UserError: no such file, or one of ours that is no model, cut short, damaged, from a newer
            version, or with weights that are NaN or infinite.
    """
    if not path.is_file():
        raise UserError(
            f"There is no checkpoint {path}. Give the path of a .ckpt or .safetensors file, such "
            f"as checkpoints/best.ckpt in the folder of a run."
        )
    with path.open("rb") as file:
        head = file.read(10)
    if is_safetensors(path, head):
        return _own_safetensors(path, with_discriminator)
    if head.startswith(b"PK\x03\x04"):
        return _own_training_checkpoint(path, with_discriminator)
    return None


def model_of_published(
    published: PublishedModel, path: Path, *, with_discriminator: bool = True
) -> ModelFile:
    """A published model as a file of ours would hold it.

    Args:
        published: read from `path`.
        path: of the file.
        with_discriminator: keep the judges of a GAN, where they are there.

    Raises:
        hydra.errors.HydraException: an option that the user named does not exist.
    """
    return ModelFile(
        path,
        facts_of_published(published),
        published.generator,
        published.discriminator if with_discriminator else {},
        published.report,
        published.kind,
    )


def built_generator(model: ModelFile) -> nn.Module:
    """The network that a file describes, out of parts of svc only, with its weights.

    Raises:
        UserError: the configuration lacks it, or the weights do not fit.
    """
    facts = model.facts
    try:
        node = facts.config["arch"]["generator"]
    except KeyError as error:
        raise UserError(
            f"The configuration in the checkpoint {model.path} lacks {error}; it was not written "
            f"by svc-train, or by another version ({facts.svc_version})."
        ) from error
    network: nn.Module = build(node, trusted=False, **facts.run_time_arguments(node))
    load_weights(network, model.generator, f"the checkpoint {model.path}")
    return network


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Give a network all of its weights.

    Args:
        network: built as the configuration beside the weights says.
        weights: by name.
        source: where they come from, for the message.

    Raises:
        UserError: some are missing, of other shapes or too many.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        first_lines = "\n".join(str(error).splitlines()[:4])
        raise UserError(
            f"The weights in {source} do not fit the model that its configuration describes: "
            f"{first_lines}"
        ) from error


def facts_of_published(published: PublishedModel) -> CheckpointFacts:
    """What our own file would say of a published model.

    Raises:
        hydra.errors.HydraException: an option that the user named does not exist.
    """
    config = composed("train", published.choices, published.settings)
    heard = {name: config[name] for name in ("content", "pitch", "energy")}
    digest = hashlib.sha256(json.dumps(heard, sort_keys=True).encode())
    return CheckpointFacts(
        config={key: value for key, value in config.items() if key not in _OF_A_MACHINE},
        audio=_audio_of(config),
        features={},
        feature_fingerprint=f"published-{digest.hexdigest()[:16]}",
        speakers=list(published.speakers),
        content_channels=published.content_channels,
    )


def portable_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what is of its machine alone: folders of runs, and where the weights
    of the content encoder lie, of which the name stays."""
    portable = {key: value for key, value in config.items() if key not in _OF_A_MACHINE}
    content = config.get("content")
    model = content.get("model") if isinstance(content, Mapping) else None
    if isinstance(model, str) and Path(model).is_absolute():
        portable["content"] = {**config["content"], "model": Path(model).name}
    return portable


def is_safetensors(path: Path, head: bytes) -> bool:
    """Whether a file is one, by its name or its first ten bytes."""
    return path.suffix == ".safetensors" or head[8:10] == b'{"'


def _own_safetensors(path: Path, with_discriminator: bool) -> ModelFile | None:
    """The model in a slim file; None where others wrote it."""
    metadata = read_metadata(path)
    if is_adapter(metadata):
        raise UserError(
            f"{path} is an adapter, which holds what was learned on top of a model and not the "
            f"model. Give checkpoint=BASE adapters=[{path}:1.0]."
        )
    if not is_slim(metadata):
        return None
    slim = read_slim(path)
    judges = slim.discriminator if with_discriminator else {}
    return ModelFile(path, slim.facts, slim.generator, judges)


def _own_training_checkpoint(path: Path, with_discriminator: bool) -> ModelFile | None:
    """The model in a checkpoint of ours; None where others wrote it."""
    try:
        checkpoint = own_checkpoint(path)
    except pickle.UnpicklingError:  # objects of other packages; nothing of them has been run
        return None
    if checkpoint is None:
        return None
    facts = facts_in(checkpoint, path)
    judges = discriminator_in(checkpoint, path) if with_discriminator else {}
    return ModelFile(path, facts, generator_in(checkpoint, path), judges)


def _audio_of(config: Mapping[str, Any]) -> AudioSpec:
    return AudioSpec(**{k: v for k, v in config["audio"].items() if k != "_target_"})
