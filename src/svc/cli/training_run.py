"""From a plain configuration to the parts of a training run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L

from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import CheckpointFacts
from svc.cli.parts import extraction_settings, prepare_dataset
from svc.cli.pretrained_run import (
    Pretrained,
    begin_with,
    judge_with,
    keeps_other_rows,
    speakers_of,
)
from svc.config.instantiate import build, merged
from svc.data.data_module import SvcDataModule
from svc.data.mel_statistics import mel_bounds
from svc.data.store import MANIFEST, FeatureStore
from svc.errors import UserError, UserErrors
from svc.inference.loading import LoadedVocoder, load_vocoder
from svc.models.mel_level import energy_level
from svc.training.finetuning import KeepSpeakerRows
from svc.training.runs import (
    checkpoint_to_resume,
    find_resumable_run,
    newest_run_and_differences,
    require_same_config,
)

_logger = logging.getLogger(__name__)

_WEIGHTS = ("vocoder_weights", "pretrained")
"""Settings that name files of weights."""

_DIFFERENCES_SHOWN = 5
"""Settings that `resume=auto` names where it finds nothing; the rest is counted."""

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)  # its tips are not for our users


@dataclass(frozen=True)
class TrainingParts:
    """Everything that `fit` takes."""

    trainer: L.Trainer
    module: L.LightningModule
    data: SvcDataModule


def checkpoint_to_continue(config: Mapping[str, Any]) -> Path | None:
    """The checkpoint that `resume` asks for, or None where a new run is wanted.

    Raises:
        UserError: there is nothing to continue, or it was made with other settings.
    """
    resume = config["resume"]
    if resume is None:
        return None
    if resume == "auto":
        runs_root = Path(config["paths"]["output_dir"])
        run = find_resumable_run(runs_root, config)
        if run is None:
            raise _nothing_to_resume(runs_root, config)
        return checkpoint_to_resume(run)
    checkpoint = checkpoint_to_resume(Path(resume))
    require_same_config(run_of(checkpoint), config)
    return checkpoint


def _nothing_to_resume(runs_root: Path, config: Mapping[str, Any]) -> UserError:
    message = (
        f"resume=auto: no run below {runs_root} has this configuration and a checkpoint. "
        f"Give the settings that the run was started with, or leave resume out to start anew."
    )
    nearest = newest_run_and_differences(runs_root, config)
    if nearest is None:
        return UserError(message)
    run, differences = nearest
    shown = differences[:_DIFFERENCES_SHOWN]
    if len(differences) > len(shown):
        shown.append(f"and {len(differences) - len(shown)} more")
    return UserErrors(f"{message} The newest run, {run}, differs in:", shown)


def run_of(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    return checkpoint.parent.parent


def prepared_store(config: Mapping[str, Any], spec: AudioSpec) -> FeatureStore:
    """The dataset's features; prepared first where they are not, or not wholly.

    Raises:
        UserError: they were made with other settings, or nothing could be prepared.
    """
    folder = Path(config["paths"]["store_dir"])
    wanted = extraction_settings(config)
    if (folder / MANIFEST).is_file():
        store = FeatureStore.open(folder, wanted)
        _logger.info(
            "Using the prepared dataset %s: %d slices, %.1f minutes of %d speaker%s. "
            "Run svc-preprocess after changing the recordings.",
            folder,
            len(store.slices),
            sum(record.duration_s for record in store.slices) / 60,
            len(store.speakers),
            "s" * (len(store.speakers) != 1),
        )
        return store
    source = build(config["dataset"])
    _logger.info("Preparing %s into %s.", source.name, folder)
    from rich.console import Console

    Console(stderr=True).print(prepare_dataset(config, source, spec))
    return FeatureStore.open(folder, wanted)


def training_parts(
    config: Mapping[str, Any],
    spec: AudioSpec,
    store: FeatureStore,
    run_dir: Path,
    pretrained: Pretrained | None = None,
    vocoder: LoadedVocoder | None = None,
) -> TrainingParts:
    """Trainer, module and data of a run.

    Args:
        config: plain, with the shapes of what is loaded.
        spec: framing and mel.
        store: of the dataset.
        run_dir: folder of the run.
        pretrained: what it begins with.
        vocoder: of `vocoder_weights`.
    """
    L.seed_everything(config["seed"], verbose=False)
    wanted = extraction_settings(config)
    plan = speakers_of(config, pretrained, store.speakers)
    facts = CheckpointFacts(
        config={**_without_places(config), "dataset_speakers": list(store.speakers)},
        audio=spec,
        features=wanted.as_dict(),
        feature_fingerprint=wanted.fingerprint,
        speakers=list(plan.names),
        content_channels=store.content_channels,
        licence=config["licence"],
        parents=pretrained.parents if pretrained is not None else [],
    )
    arch = dict(config["arch"])
    node = arch.pop("generator")
    generator = build(node, **facts.run_time_arguments(node))
    begin_with(config, pretrained, plan, generator, vocoder.network if vocoder else None)
    if vocoder is not None and pretrained is None:
        of_generator = getattr(generator, "vocoder", generator)
        of_generator.load_state_dict(vocoder.network.state_dict())
    module = build(
        arch,
        generator=generator,
        audio=spec,
        optimizer=build(config["optim"]),
        scheduler=build(config["scheduler"]) if config["scheduler"] else None,
        facts=facts,
    )
    judge_with(pretrained, getattr(module, "discriminator", None))
    trainer = build(
        config["trainer"],
        run_dir=str(run_dir),
        callbacks=[
            *([KeepSpeakerRows(plan.kept_rows)] if keeps_other_rows(config) else []),
            *_built(config["callbacks"]),
        ],
        loggers=_built(config["logger"]),
    )
    for logger in trainer.loggers:
        logger.log_hyperparams(dict(config))  # what a dashboard finds and compares runs by
    data = build(config["data"], store=store.with_speaker_table(plan.names), spec=spec)
    return TrainingParts(trainer, module, data)


def trained_vocoder(config: Mapping[str, Any], spec: AudioSpec) -> LoadedVocoder | None:
    """The vocoder of `vocoder_weights`, where given.

    Raises:
        UserError: the file holds no vocoder of these mels.
    """
    path = config["vocoder_weights"]
    return None if path is None else load_vocoder(Path(path), spec)


def with_vocoder_shape(config: Mapping[str, Any], vocoder: LoadedVocoder | None) -> dict[str, Any]:
    """A copy of the configuration in which the vocoder is that of `vocoder_weights`, where given.

    Raises:
        UserError: the architecture takes none.
    """
    if vocoder is None:
        return dict(config)
    path, node = config["vocoder_weights"], vocoder.node
    arch, generator = config["arch"], config["arch"]["generator"]
    if "vocoder" in generator:
        generator = {**generator, "vocoder": node}
    elif generator["_target_"] == node["_target_"]:
        generator = node
    else:
        raise UserError(
            f"vocoder_weights={path}: this architecture learns its own decoder and takes no "
            f"vocoder; leave it out, or choose arch=diffsvc, flowsvc or nsf_hifigan."
        )
    return {**config, "vocoder": node, "arch": {**arch, "generator": generator}}


def with_mel_bounds(
    config: Mapping[str, Any], spec: AudioSpec, store: FeatureStore
) -> dict[str, Any]:
    """A copy of the configuration with the bounds of the dataset's mels, where mel_scaling=dataset
    asks for them."""
    generator = config["arch"]["generator"]
    scaling = generator.get("scaling") or {}
    if not str(scaling.get("_target_")).endswith(".dataset_scaling") or "minimum" in scaling:
        return dict(config)
    level = energy_level if generator["level_from_energy"] else None
    minimum, maximum = mel_bounds(store, spec, level)
    found = {"minimum": minimum, "maximum": maximum}
    return merged(config, {"mel_scaling": found, "arch": {"generator": {"scaling": found}}})


def with_absolute_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the configuration that names recordings and weights from wherever one is, so that
    a run is found again from another folder, and its checkpoint finds its encoder.

    A content model that is not a folder here stays as it is: it is that of a model to fetch.
    """
    dataset, model = config["dataset"].get("path"), config["content"].get("model")
    absolute: dict[str, Any] = {}
    if isinstance(dataset, str):
        absolute["dataset"] = {"path": str(Path(dataset).expanduser().resolve())}
    if isinstance(model, str) and Path(model).expanduser().exists():
        absolute["content"] = {"model": str(Path(model).expanduser().resolve())}
    for key in _WEIGHTS:
        if config.get(key):
            absolute[key] = str(Path(config[key]).expanduser().resolve())
    return merged(config, absolute)


def _without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration for a checkpoint: whoever gets it need not know where recordings and other
    weights lie."""
    path = config["dataset"].get("path")
    names: dict[str, Any] = {"dataset": {"path": Path(path).name}} if path else {}
    names |= {key: Path(config[key]).name for key in _WEIGHTS if config[key]}
    return merged(config, names)


def _built(nodes: Mapping[str, Any]) -> list[Any]:
    return [build(node) for node in nodes.values() if node is not None]
