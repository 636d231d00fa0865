"""Steps that several commands share: checked settings, live parts, a prepared dataset."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from svc.config.checks import DeviceCheck, check_config
from svc.config.instantiate import build
from svc.config.signatures import with_values_as_wanted
from svc.errors import UserErrors

if TYPE_CHECKING:
    from svc.audio.spec import AudioSpec
    from svc.data.report import PreparationReport
    from svc.data.settings import ExtractionSettings
    from svc.data.shards import Shard, ShardReport
    from svc.data.sources import RecordingSource

_WHAT_TO_GIVE = {
    "dataset.path": "dataset.path=FOLDER with your recordings, or dataset=demo",
    "checkpoint": "checkpoint=FILE, or the folder of a run",
    "input": "input=FILE or input=FOLDER",
}


def plain_config(
    config: DictConfig,
    run_time: Mapping[str, Collection[str]],
    device_problem: DeviceCheck | None = None,
) -> dict[str, Any]:
    """The composed configuration as plain resolved containers, after every check.

    Args:
        config: as Hydra composed it.
        run_time: by path, arguments that are passed at the call.
        device_problem: asks the machine whether the trainer can run on it.

    Raises:
        UserErrors: something is missing or cannot work.
    """
    missing = sorted(_missing_keys(OmegaConf.to_container(config, resolve=False)))
    if missing:
        hints = [f"{key} is not set; give {_WHAT_TO_GIVE.get(key, f'{key}=…')}" for key in missing]
        raise UserErrors("The configuration is not complete:", hints)
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    check_config(plain, run_time, device_problem)
    as_wanted: dict[str, Any] = with_values_as_wanted(plain)
    return as_wanted


def _missing_keys(node: Any, path: str = "") -> Iterator[str]:
    """Every setting that still is `???`, or was given as nothing where something is needed; found
    before anything that refers to it is resolved."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _missing_keys(child, f"{path}.{key}" if path else str(key))
    elif node == "???" or (path in _WHAT_TO_GIVE and node in ("", None)):
        yield path


def extraction_settings(config: Mapping[str, Any]) -> "ExtractionSettings":
    """What determines the features, according to a plain configuration."""
    from svc.data.settings import ExtractionSettings

    preparation = config["preparation"]
    return ExtractionSettings.of(
        spec=build(config["audio"]),
        slicing=preparation["slicing"],
        store_mel=preparation["store_mel"],
        perturbation=_perturbation_factory(config),
        **_extractor_factories(config),
    )


def prepare_dataset(
    config: Mapping[str, Any],
    source: "RecordingSource",
    spec: "AudioSpec",
    merge: int | None = None,
) -> "PreparationReport":
    """Bring the feature store of the configured dataset up to date, or merge so many shards."""
    from svc.data.preparation import prepare

    folder = Path(config["paths"]["store_dir"])
    arguments = {**config["preparation"], "perturbation": _perturbation_factory(config)}
    parts = _extractor_factories(config)
    return prepare(source, folder, spec=spec, merge=merge, **parts, **arguments)


def prepare_share(
    config: Mapping[str, Any],
    source: "RecordingSource",
    spec: "AudioSpec",
    shard: "Shard",
    progress: bool,
) -> "ShardReport":
    """Extract a shard of the configured dataset into its feature store."""
    from svc.data.recipe import Recipe
    from svc.data.shards import prepare_shard

    folder, preparation = Path(config["paths"]["store_dir"]), config["preparation"]
    recipe = Recipe(
        spec,
        preparation["slicing"],
        **_extractor_factories(config),
        store_mel=preparation["store_mel"],
        perturbation=_perturbation_factory(config),
        batch_s=preparation["batch_s"],
    )
    workers = preparation["workers"]
    return prepare_shard(source, folder, shard, recipe=recipe, workers=workers, progress=progress)


def _perturbation_factory(config: Mapping[str, Any]) -> Any:
    """What makes content variants, as a partial; None where none are wanted."""
    perturbation = config["preparation"].get("perturbation")
    return build(perturbation, _partial_=True) if perturbation else None


def _extractor_factories(config: Mapping[str, Any]) -> dict[str, Any]:
    """Content, pitch and energy as partials, which worker processes can be sent."""
    return {name: build(config[name], _partial_=True) for name in ("content", "pitch", "energy")}
