"""Any checkpoint as a live module: published ones, those of feature networks, and our own."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from svc.checkpoints.feature_networks import FeatureNetwork, feature_network_in
from svc.checkpoints.layouts.base import KeyReport, LayoutOptions
from svc.checkpoints.layouts.training_config import is_training_config, options_of_config
from svc.checkpoints.model_file import (
    ModelFile,
    built_generator,
    model_of_published,
    own_model,
)
from svc.checkpoints.published import published_model
from svc.checkpoints.safe_reading import read_published_file
from svc.errors import UserError
from svc.models.normalisation import fold_weight_norm

_MARK_OF_A_VOCODER = "upsample_rates"
_LARGEST_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class ImportedCheckpoint:
    """A network out of a file."""

    kind: str
    """Name of the layout: `hifisinger_fish`, `diffsvc_fish`, `diffsvc_original`, `nsf_hifigan`,
    `hubert_soft`, `contentvec`, `hubert_base`, `rmvpe`; `svc` for our own files."""
    module: nn.Module
    """With its weights, in eval mode, weight norm folded."""
    config: dict[str, Any]
    """Plain and resolved: as `svc-train` would run with for a model; of a feature network its group
    alone, `content` or `pitch`."""
    report: KeyReport
    """What became of every name."""


def import_checkpoint(
    path: Path | str, config: Mapping[str, Any] | Path | str | None = None
) -> ImportedCheckpoint:
    """The network in a checkpoint, recognised by its names. Nothing from the file is executed.

    Args:
        path: of the file; safetensors, or saved by torch in any version.
        config: what the file does not say about itself: the fields of
            `svc.checkpoints.layouts.base.LayoutOptions`, or the configuration of the trainer that
            it comes from (fish-diffusion's, diff-svc's config.yaml, a vocoder's config.json), as a
            mapping or a file of JSON or YAML. None assumes what is usual; the report says what.

    Raises:
        UserError: the file or the configuration cannot be read, is of no known layout, or weights
            are missing, of wrong shapes, NaN or infinite; names what is wrong.
    """
    found = recognised(Path(path).expanduser(), layout_options(config), with_discriminator=False)
    if isinstance(found, FeatureNetwork):
        return ImportedCheckpoint(found.kind, found.module, found.config, found.report)
    report = found.report or KeyReport(used=tuple(found.generator))
    module = built_generator(found)
    with torch.no_grad():
        fold_weight_norm(module)
    module.requires_grad_(False).eval()
    return ImportedCheckpoint(found.kind, module, found.facts.config, report)


def recognised(
    path: Path, options: LayoutOptions, *, with_discriminator: bool = True
) -> ModelFile | FeatureNetwork:
    """What a file holds, read once: a model, ours or published, or a network that listens.

    Args:
        path: of the file.
        options: what it does not say about itself.
        with_discriminator: read the judges of a GAN too, where they are there.

    Raises:
        UserError: see `import_checkpoint`.
    """
    # Of a file that is not there, the reader of weights says so in its own words.
    own = own_model(path, with_discriminator=with_discriminator) if path.is_file() else None
    if own is not None:
        return own
    file = read_published_file(path)
    network = feature_network_in(file.weights, path, options)
    if network is not None:
        return network
    published = published_model(file, path, options)
    return model_of_published(published, path, with_discriminator=with_discriminator)


def layout_options(config: Mapping[str, Any] | Path | str | None) -> LayoutOptions:
    """Options out of what `import_checkpoint` takes.

    Raises:
        UserError: a name is none of them, or the file cannot be read.
    """
    if config is None:
        return LayoutOptions()
    if isinstance(config, Path | str):
        return _options_of_file(Path(config).expanduser())
    if is_training_config(config):
        return options_of_config(config)
    known = [field.name for field in fields(LayoutOptions)]
    for name in config:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"{name} is not an option; {meant}There are {', '.join(known)}.")
    given = dict(config)
    if given.get("speakers") is not None:
        names = given["speakers"]
        given["speakers"] = (names,) if isinstance(names, str) else tuple(map(str, names))
    return LayoutOptions(**given)


def _options_of_file(path: Path) -> LayoutOptions:
    try:
        if path.stat().st_size > _LARGEST_CONFIG_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes are too many")
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        what = str(error).splitlines()[0]
        raise UserError(
            f"config={path} cannot be read ({what}). Expected JSON or YAML: the configuration of "
            f"the trainer that the checkpoint comes from, or options of svc-convert-checkpoint."
        ) from error
    if not isinstance(plain, dict):
        raise UserError(f"config={path} holds no settings by name.")
    if _MARK_OF_A_VOCODER in plain:
        return LayoutOptions(vocoder_config=str(path))
    return layout_options(plain)
