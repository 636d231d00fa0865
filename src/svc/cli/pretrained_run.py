"""Training that goes on from the weights of another: what its file gives, and what must fit."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn

from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import CheckpointFacts, parent_of
from svc.checkpoints.model_file import ModelFile, read_model_file
from svc.checkpoints.runs import checkpoint_to_convert_with
from svc.config.paths import conf_dir
from svc.data.settings import ExtractionSettings
from svc.errors import UserErrors
from svc.models.discriminators import Discriminators
from svc.training.finetuning import (
    SpeakerPlan,
    freeze,
    learn_by_lora,
    learn_only_speakers,
    load_pretrained,
    plan_speakers,
)

_logger = logging.getLogger(__name__)

_EXTRACTORS = ("content", "pitch", "energy")

_WHICH = ("_target_", "weights", "layer", "projection")
"""Settings that tell extractors apart; what else they have changes numbers, not what they are."""

_OF_A_MACHINE = ("device", "precision", "offline", "batch_size")
"""Settings of extractors that leave the features as they are."""


@dataclass(frozen=True)
class Pretrained:
    """What a training begins with."""

    model: ModelFile
    """Its weights; where a run is continued, those of its own checkpoint."""
    parents: list[dict[str, Any]]
    """Files that the weights came from, for the record."""
    is_continued: bool
    """The run has begun before: its own checkpoint says what the table of speakers is, and brings
    the weights."""


def read_pretrained(config: Mapping[str, Any], checkpoint: Path | None) -> Pretrained | None:
    """The model that `pretrained` names; None where a training starts from scratch.

    Args:
        config: plain, of the run.
        checkpoint: of the run itself, where it is continued; the pretrained file is then not
            needed any more.

    Raises:
        UserError: the file holds no model.
    """
    if config["pretrained"] is None:
        return None
    if checkpoint is not None:
        model = read_model_file(checkpoint, with_discriminator=False)
        return Pretrained(model, model.facts.parents, True)
    path = checkpoint_to_convert_with(Path(config["pretrained"]))
    model = read_model_file(path, with_discriminator=config["finetune"]["discriminators"])
    parent = parent_of(path, model.kind, model.facts.licence)
    return Pretrained(model, [*model.facts.parents, parent], False)


def with_pretrained_shape(
    config: Mapping[str, Any],
    pretrained: Pretrained | None,
    spec: AudioSpec,
    wanted: Callable[[], ExtractionSettings],
) -> dict[str, Any]:
    """A copy of the configuration whose networks are those of the pretrained file.

    Args:
        config: plain, of the run.
        pretrained: what it begins with.
        spec: framing and mel of the run.
        wanted: its extraction settings; only asked where its choices fit, because that may look
            for weights.

    Raises:
        UserErrors: it is of another architecture, mel or features than this training; says what to
            give.
    """
    if pretrained is None:
        return dict(config)
    facts = pretrained.model.facts
    theirs, arch = facts.config["arch"], config["arch"]
    faults = _faults(config, facts, spec, wanted)
    if faults:
        raise UserErrors(f"pretrained={config['pretrained']} does not fit this training:", faults)
    changed = {**arch, "generator": theirs["generator"]}
    judges_stay = pretrained.is_continued or pretrained.model.discriminator
    if judges_stay and "discriminator" in theirs:
        changed["discriminator"] = theirs["discriminator"]
    shape: dict[str, Any] = {
        key: facts.config[key] for key in ("vocoder", "mel_scaling") if key in facts.config
    }
    return {**config, **shape, "arch": changed}


def begin_with(
    config: Mapping[str, Any],
    pretrained: Pretrained | None,
    plan: SpeakerPlan,
    generator: nn.Module,
    vocoder: nn.Module | None = None,
) -> None:
    """Give the generator the pretrained weights, and take out of the training what is to stay.

    Args:
        config: plain, of the run.
        pretrained: what it begins with; None changes nothing.
        plan: of its speaker table.
        generator: changed in place.
        vocoder: of `vocoder_weights`, in place of the one in the pretrained file.

    Raises:
        UserError: the weights, patterns or targets do not fit.
    """
    if pretrained is None:
        return
    finetune, lora, model = config["finetune"], config["lora"], pretrained.model
    if not pretrained.is_continued:
        weights = model.generator if vocoder is None else _with_vocoder(model.generator, vocoder)
        load_pretrained(generator, weights, model.facts.speakers, plan)
        _logger.info("%s", _told(pretrained, plan))
    if lora["rank"] > 0:
        adapted = learn_by_lora(generator, lora["rank"], lora["alpha"], lora["targets"])
        _logger.info("LoRA of rank %d adapts %d weights.", lora["rank"], len(adapted))
    elif finetune["train"] == "speakers":
        learn_only_speakers(generator)
    if finetune["freeze"]:
        frozen = freeze(generator, finetune["freeze"])
        _logger.info("finetune.freeze: %.2f million weights stay as they are.", frozen / 1e6)


def _with_vocoder(weights: Mapping[str, Tensor], vocoder: nn.Module) -> dict[str, Tensor]:
    others = {name: weight for name, weight in weights.items() if not name.startswith("vocoder.")}
    return others | {f"vocoder.{name}": w for name, w in vocoder.state_dict().items()}


def judge_with(pretrained: Pretrained | None, discriminator: Any) -> None:
    """Give the discriminators their pretrained weights, where the file holds them."""
    if pretrained is None or not pretrained.model.discriminator:
        return
    assert isinstance(discriminator, Discriminators)
    discriminator.load_state_dict(pretrained.model.discriminator)


def speakers_of(
    config: Mapping[str, Any], pretrained: Pretrained | None, dataset: Sequence[str]
) -> SpeakerPlan:
    """The speaker table of the run."""
    if pretrained is None:
        return SpeakerPlan(tuple(dataset), tuple(dataset), ())
    known = pretrained.model.facts.speakers
    return plan_speakers(known, dataset, config["finetune"]["speakers"])


def continued_speakers(known: Sequence[str], dataset: Sequence[str]) -> SpeakerPlan:
    """The table of a run that goes on: the one that it has, `known`."""
    kept = [index for index, name in enumerate(known) if name not in dataset]
    return SpeakerPlan(tuple(known), (), tuple(kept))


def keeps_other_rows(config: Mapping[str, Any]) -> bool:
    """Whether voices that the dataset has nothing of must not change at all."""
    return bool(config["lora"]["rank"] > 0 or config["finetune"]["train"] == "speakers")


def _faults(
    config: Mapping[str, Any],
    facts: CheckpointFacts,
    spec: AudioSpec,
    wanted: Callable[[], ExtractionSettings],
) -> list[str]:
    theirs, arch = facts.config["arch"], config["arch"]
    mine, given = theirs["generator"]["_target_"], arch["generator"]["_target_"]
    if mine != given:
        return [f"it holds a {_name(mine)}, and this architecture trains a {_name(given)}"]
    its, ours = asdict(facts.audio), asdict(spec)
    # A model that makes no mels can be trained with losses over any.
    framing = ("sample_rate_hz", "hop_samples")
    makes_mels = theirs["generator"].get("mel_bottleneck", True)
    differing = [n for n in (its if makes_mels else framing) if its[n] != ours[n]]
    faults = []
    if differing:
        there = ", ".join(f"{name} {its[name]} in place of {ours[name]}" for name in differing)
        settings = " ".join(f"audio.{name}={its[name]}" for name in differing)
        option = _option("audio", {name: its[name] for name in (its if makes_mels else framing)})
        faults.append(f"its audio has {there}; give {f'audio={option}' if option else settings}")
    if "conditioner" not in theirs["generator"]:
        return faults  # a vocoder hears nothing
    for group in _EXTRACTORS:
        there_node, here = facts.config.get(group) or {}, config[group]
        which = {key: there_node.get(key) for key in _WHICH}
        if any(which[key] != here.get(key) for key in _WHICH):
            faults.append(
                f"{group}: it was trained with {_described(there_node)}, and this run takes "
                f"{_described(here)}; give {group}={_option(group, which) or '… the same'}"
            )
    return faults or _other_settings(config, facts, wanted)


def _other_settings(
    config: Mapping[str, Any], facts: CheckpointFacts, wanted: Callable[[], ExtractionSettings]
) -> list[str]:
    """Extractors of the right kind with other settings or weights. A published file does not tell
    them."""
    if not facts.features:
        return []
    faults, here = [], wanted().as_dict()
    for group in _EXTRACTORS:
        if facts.features.get(group) == here[group]:
            continue
        there = facts.config.get(group) or {}
        settings = [
            f"{group}.{key}={value}"
            for key, value in there.items()
            if key not in _OF_A_MACHINE and key in config[group] and config[group][key] != value
        ]
        what = " ".join(settings) or f"the weights that it was trained with, {group}.model=FILE"
        faults.append(f"{group}: it was trained with other settings or weights; give {what}")
    return faults


def _option(group: str, wanted: Mapping[str, Any]) -> str | None:
    """The name of an option of a group in `conf/` that has these settings."""
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        node = _read_option(path)
        if all(node.get(key) == value for key, value in wanted.items()):
            return path.stem
    return None


def _read_option(path: Path) -> dict[str, Any]:
    node: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for base in node.pop("defaults", []):
        if isinstance(base, str) and base != "_self_":
            node = {**_read_option(path.with_name(f"{base}.yaml")), **node}
    return node


def _described(node: Mapping[str, Any]) -> str:
    target = _name(str(node.get("_target_")))
    chosen = [f"{key}={node[key]}" for key in ("weights", "layer", "model") if node.get(key)]
    return f"{target} ({', '.join(chosen)})" if chosen else target


def _name(target: str) -> str:
    return target.rpartition(".")[2]


def _told(pretrained: Pretrained, plan: SpeakerPlan) -> str:
    """What was loaded and what is new."""
    model = pretrained.model
    sentences = [f"Beginning with {len(model.generator)} weights of {model.path} ({model.kind})"]
    if model.discriminator:
        sentences.append(f"{len(model.discriminator)} of its discriminators")
    kept = [name for name in plan.names if name and name not in plan.new]
    if plan.names:
        sentences.append(f"voices kept: {', '.join(kept) or 'none'}")
        sentences.append(f"new, from the mean of those: {', '.join(plan.new) or 'none'}")
        gone = [n for n in model.facts.named_speakers if n not in plan.names]
        if gone:
            sentences.append(f"left behind: {', '.join(gone)} (finetune.speakers=add keeps them)")
    if model.report is not None and (model.report.missing or model.report.left_over):
        sentences.append(
            f"missing in the file: {', '.join(model.report.missing) or 'nothing'}; left over: "
            f"{len(model.report.left_over)} names (svc-convert-checkpoint lists them)"
        )
    return "; ".join(sentences) + "."
