"""The configuration of a command, as a user's overrides would compose it."""

from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from svc.config.paths import conf_dir
from svc.config.resolvers import register_resolvers
from svc.config.schema import register_schemas


def composed(command: str, *overrides: str) -> dict[str, Any]:
    """Plain, resolved containers; outside a command there is no run folder, so one is named."""
    register_schemas()
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(
            command, ["dataset=demo", "paths.run_dir=run", "paths.store_dir=store", *overrides]
        )
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return plain
