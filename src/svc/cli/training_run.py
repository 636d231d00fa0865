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
    continued_speakers,
    judge_with,
    keeps_other_rows,
    speakers_of,
)
from svc.cli.resuming import (
    Continuation,
    changed_optimisation,
    require_known_dataset,
    require_weights_that_fit,
)
from svc.config.instantiate import build, merged
from svc.data.data_module import SvcDataModule
from svc.data.demo.source import DemoSource
from svc.data.fingerprint import DatasetRecord
from svc.data.mel_statistics import mel_bounds
from svc.data.settings import ExtractionSettings
from svc.data.store import MANIFEST, FeatureStore
from svc.data.store_writer import StoreWriter
from svc.errors import UserError
from svc.inference.loading import LoadedVocoder, load_vocoder
from svc.models.mel_level import energy_level
from svc.training.finetuning import KeepSpeakerRows
from svc.training.provenance import provenance

_logger = logging.getLogger(__name__)

_WEIGHTS = ("vocoder_weights", "pretrained")
"""Settings that name files of weights."""

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)  # its tips are not for our users


@dataclass(frozen=True)
class TrainingParts:
    """Everything that `fit` takes."""

    trainer: L.Trainer
    module: L.LightningModule
    data: SvcDataModule


def prepared_store(
    config: Mapping[str, Any], spec: AudioSpec, continued: Continuation | None = None
) -> FeatureStore:
    """The dataset's features; prepared first where they are not, or not wholly.

    Raises:
        UserError: they were made with other settings, nothing could be prepared, or they are not
            those that the run which goes on may go on with.
    """
    folder = Path(config["paths"]["store_dir"])
    wanted = extraction_settings(config)
    store = None
    if not (folder / MANIFEST).is_file():
        with StoreWriter(folder).in_turn():
            if not (folder / MANIFEST).is_file():
                store = _prepared_now(config, spec, wanted)
    if store is None:
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
        if changes := _changes_of_demo(config["dataset"]):
            _logger.info(
                "It was made with other settings than those asked for (%s), and stays as it is "
                "until svc-preprocess makes it anew with these.",
                "; ".join(changes),
            )
    if continued is not None:
        require_known_dataset(continued, DatasetRecord.of(store))
    return store


def _prepared_now(
    config: Mapping[str, Any], spec: AudioSpec, wanted: ExtractionSettings
) -> FeatureStore:
    from rich.console import Console

    source, folder = build(config["dataset"]), Path(config["paths"]["store_dir"])
    _logger.info("Preparing %s into %s.", source.name, folder)
    Console(stderr=True).print(prepare_dataset(config, source, spec))
    return FeatureStore.open(folder, wanted)


def _changes_of_demo(node: Mapping[str, Any]) -> list[str]:
    """Settings in which synthetic singers that are there differ from those asked for."""
    if not str(node.get("_target_")).endswith(".DemoSource"):
        return []
    source: DemoSource = build(node)
    return source.changes()


def training_parts(
    config: Mapping[str, Any],
    spec: AudioSpec,
    store: FeatureStore,
    run_dir: Path,
    pretrained: Pretrained | None = None,
    vocoder: LoadedVocoder | None = None,
    continued: Continuation | None = None,
) -> TrainingParts:
    """Trainer, module and data of a run.

    Args:
        config: plain, with the shapes of what is loaded.
        spec: framing and mel.
        store: of the dataset.
        run_dir: folder of the run.
        pretrained: what it begins with.
        vocoder: of `vocoder_weights`.
        continued: the run that goes on.

    Raises:
        UserError: its weights do not fit.
    """
    L.seed_everything(config["seed"], verbose=False)
    wanted = extraction_settings(config)
    if continued is not None and continued.facts is not None:
        plan = continued_speakers(continued.facts.speakers, store.speakers)
    else:
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
        dataset=DatasetRecord.of(store).without_names().to_plain(),
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
    if continued is not None:
        require_weights_that_fit(continued, module)
    trainer = build(
        config["trainer"],
        run_dir=str(run_dir),
        callbacks=[
            *([KeepSpeakerRows(plan.kept_rows)] if keeps_other_rows(config) else []),
            *(changed_optimisation(continued, config) if continued is not None else []),
            *_built(config["callbacks"]),
        ],
        loggers=_built(config["logger"]),
    )
    data = build(config["data"], store=store.with_speaker_table(plan.names), spec=spec)
    return TrainingParts(trainer, module, data)


def tell_loggers(parts: TrainingParts, config: Mapping[str, Any], store: FeatureStore) -> None:
    """Give loggers what a dashboard finds and compares runs by; this begins a run there.

    Args:
        parts: of the run, its batch size decided.
        config: plain.
        store: of the dataset.
    """
    decided = merged(config, {"data": {"batch_size": parts.data.batch_size}})
    for logger in parts.trainer.loggers:
        logger.log_hyperparams({**decided, "provenance": provenance(store)})


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
