"""Configurations composed without a command line: what `svc-train` would run with."""

from collections.abc import Mapping
from typing import Any

from svc.config.paths import conf_dir
from svc.config.resolvers import register_resolvers
from svc.config.schema import register_schemas


def composed(
    command: str, choices: Mapping[str, str | None], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration of a command, plain and resolved. Folders of runs and datasets, which only
    a command has, are named `run` and `store`. Works inside a running command, too, whose own
    Hydra stays as it was; what somebody set up in conf/local has no part in it.

    Args:
        command: primary file in conf/, such as `train`.
        choices: options of groups; None for none of a group.
        settings: nested mapping, merged over what the options say before anything is resolved.

    Raises:
        hydra.errors.HydraException: there is no such group or option.
        omegaconf.errors.OmegaConfBaseException: a setting does not fit.
    """
    from omegaconf import OmegaConf, open_dict

    register_schemas()
    register_resolvers()
    overrides = ["paths.run_dir=run", "paths.store_dir=store", "dataset.path=recordings"]
    overrides += [
        f"{group}={'null' if option is None else option}" for group, option in choices.items()
    ]
    own = "default" if command == "train" else command
    if (conf_dir() / "local" / f"{own}.yaml").is_file():
        overrides.append("~local")
    config = _composed(command, overrides)
    with open_dict(config):
        merged = OmegaConf.merge(config, OmegaConf.create(dict(settings)))
    plain: dict[str, Any] = OmegaConf.to_container(merged, resolve=True)  # type: ignore[assignment]
    return plain


def _composed(command: str, overrides: list[str]) -> Any:
    """By a Hydra of its own: there can be one at a time."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose(command, overrides)
    finally:
        GlobalHydra.instance().hydra = running
