"""Models out of checkpoints, ready to convert."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from svc.audio.spec import AudioSpec
from svc.checkpoints.adapters import apply_adapters
from svc.checkpoints.facts import CheckpointFacts
from svc.checkpoints.model_file import built_generator, read_model_file
from svc.checkpoints.runs import checkpoint_to_convert_with
from svc.config.instantiate import build
from svc.diffusion.samplers.base import Sampler
from svc.errors import UserError
from svc.inference.analysis import Extractors
from svc.inference.extractors import build_extractors
from svc.inference.singers import DirectSinger, SamplingSinger, Singer
from svc.models.hifisinger import HifiSinger
from svc.models.mel_singer import MelSinger
from svc.models.vocoder import Vocoder


@dataclass(frozen=True)
class LoadedModel:
    """A network with its weights, and what its checkpoint says about it."""

    path: Path
    facts: CheckpointFacts
    network: nn.Module


@dataclass(frozen=True)
class LoadedVocoder:
    """A vocoder with its weights."""

    node: dict[str, Any]
    """The plain configuration that builds it."""
    network: Vocoder


def load_model(path: Path | str, adapters: Sequence[tuple[Path, float]] = ()) -> LoadedModel:
    """Build the model that a file describes, out of parts of svc only.

    Args:
        path: of a checkpoint, a slim file or a published one, see `read_model_file`.
        adapters: files and scales, see `apply_adapters`.

    Raises:
        UserError: the file holds no usable model, or an adapter is not one of it.
    """
    path = Path(path)
    model = apply_adapters(read_model_file(path, with_discriminator=False), adapters)
    return LoadedModel(path, model.facts, built_generator(model))


def load_vocoder(path: Path | str, spec: AudioSpec) -> LoadedVocoder:
    """A vocoder's checkpoint (arch=nsf_hifigan), or the vocoder inside another model's.

    Args:
        path: a file that holds a model, or the folder of a run.
        spec: of the mels that it is to render.

    Raises:
        UserError: it holds no vocoder, or one that was trained on mels of another definition.
    """
    loaded = load_model(checkpoint_to_convert_with(Path(path)))
    require_same_mel(f"The vocoder {path}", loaded.facts.audio, spec)
    node, network = loaded.facts.config["arch"]["generator"], loaded.network
    if not has_mel(network):
        raise UserError(
            f"{path} holds no vocoder: it is a HiFiSinger whose decoder takes hidden features and "
            f"no mel. Give a checkpoint of arch=nsf_hifigan."
        )
    for part in ("decoder", "vocoder"):  # of a HiFiSinger, of a DiffSVC
        if part in node:
            node, network = node[part], getattr(network, part)
    if not isinstance(network, Vocoder):
        raise UserError(
            f"{path} holds no vocoder but a {type(network).__name__}. Give a checkpoint of "
            f"arch=nsf_hifigan."
        )
    return LoadedVocoder(node, network)


def singer_of(
    loaded: LoadedModel, sampler: Sampler | None, steps: int | None, vocoder: Vocoder | None
) -> Singer:
    """The model as the converter uses it.

    Args:
        loaded: HiFiSinger, DiffSVC or FlowSVC.
        sampler: in place of the one of the training; None for that.
        steps: of the training's sampler; None for its own number.
        vocoder: in place of the model's own; None for that.

    Raises:
        UserError: it cannot convert, or the sampler or the vocoder does not fit.
    """
    network = loaded.network
    if isinstance(network, HifiSinger):
        if sampler is not None or steps is not None:
            raise UserError(
                f"{loaded.path} is a HiFiSinger, which converts in one pass and has no sampler; "
                f"leave sampler= and steps= out."
            )
        if vocoder is not None and not network.has_mel:
            raise UserError(
                f"{loaded.path} is a HiFiSinger without a mel, which only its own decoder can "
                f"render; leave vocoder= out."
            )
        return DirectSinger(network, vocoder)
    if isinstance(network, MelSinger):
        return SamplingSinger(network, sampler or sampler_of(loaded, steps), vocoder)
    raise UserError(
        f"{loaded.path} holds a {type(network).__name__}, which renders mels but does not convert. "
        f"Give the checkpoint of a conversion model; a vocoder goes into vocoder=FILE."
    )


def has_mel(network: nn.Module) -> bool:
    """Whether a model makes a mel, or renders one, that other parts could exchange with it."""
    return not isinstance(network, HifiSinger) or network.has_mel


def extractors_of(
    loaded: LoadedModel, device: torch.device, content_model: str | None = None
) -> Extractors:
    """What a model's inputs are extracted with, see `build_extractors`."""
    try:
        return build_extractors(loaded.facts, device, content_model)
    except KeyError as error:
        raise incomplete(loaded.path, loaded.facts, error) from error


def sampler_of(loaded: LoadedModel, steps: int | None = None) -> Sampler:
    """The sampler that a model was validated with, with another number of steps where given."""
    try:
        node = loaded.facts.config["sampler"]
    except KeyError as error:
        raise incomplete(loaded.path, loaded.facts, error) from error
    sampler: Sampler = build(node if steps is None else {**node, "steps": steps}, trusted=False)
    return sampler


def require_same_mel(what: str, its: AudioSpec, wanted: AudioSpec) -> None:
    """Refuse a part whose mels are not those of another part.

    Raises:
        UserError: names what differs.
    """
    mine, theirs = asdict(its), asdict(wanted)
    different = [
        f"{name} is {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name]
    ]
    if different:
        raise UserError(
            f"{what} was trained on mels of another definition: {'; '.join(different)}. What makes "
            f"mels and what renders them must agree; train both with the same audio= settings."
        )


def incomplete(path: Path, facts: CheckpointFacts, error: KeyError) -> UserError:
    """What to say of a checkpoint whose configuration lacks a part."""
    return UserError(
        f"The configuration in the checkpoint {path} lacks {error}; it was not written by "
        f"svc-train, or by another version ({facts.svc_version})."
    )
