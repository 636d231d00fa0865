"""Which trainer options this machine can run."""

import logging
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from svc.training.devices import choose_trainer, supports

_logger = logging.getLogger(__name__)


def with_chosen_trainer(config: DictConfig) -> DictConfig:
    """Replace `trainer=auto` by the option that suits this machine, and say which.

    The configuration is composed once more as if the option had been typed, so that groups that
    come after the trainer (an experiment, say) still have the last word.
    """
    hydra_config = HydraConfig.get()
    if hydra_config.runtime.choices["trainer"] != "auto":
        return config
    chosen = choose_trainer()
    _logger.info("trainer=auto: this machine trains with trainer=%s.", chosen)
    overrides = [o for o in hydra_config.overrides.task if not o.startswith("trainer=")]
    composed = _loader().load_configuration(
        hydra_config.job.config_name, [*overrides, f"trainer={chosen}"], RunMode.RUN
    )
    keys = [str(key) for key in composed if key != "hydra"]
    without_hydra: DictConfig = OmegaConf.masked_copy(composed, keys)
    return without_hydra


def device_problem(accelerator: str, devices: int | str, precision: str) -> str | None:
    """Why the trainer cannot run here, with the options that can, or None."""
    problem = supports(accelerator, devices, precision)
    if problem is None:
        return None
    chosen = [f"trainer={HydraConfig.get().runtime.choices['trainer']}"]
    decisive = ("trainer.accelerator=", "trainer.devices=", "trainer.precision=")
    chosen += [o for o in HydraConfig.get().overrides.task if o.startswith(decisive)]
    return (
        f"{' '.join(chosen)} cannot run here: {problem}. "
        f"Trainers that work on this machine: {', '.join(working_trainers())}"
    )


def trainer_settings(name: str) -> tuple[str, int]:
    """Precision and batch size that a trainer option brings along, for commands that do not train
    themselves."""
    composed = _composed_with(name)
    return str(composed.trainer.precision), int(composed.data.batch_size)


def working_trainers() -> list[str]:
    """The options of the group `trainer` that this machine can run."""
    names = []
    for name in _loader().get_group_options("trainer"):
        if name == "base":
            continue
        # The option alone: with the whole command around it, all of them took two seconds.
        settings = _loader().load_configuration(None, [f"+trainer={name}"], RunMode.RUN).trainer
        if supports(settings.accelerator, settings.devices, settings.precision) is None:
            names.append(name)
    return names


def _composed_with(name: str) -> Any:
    """The command's configuration with another trainer; that of svc-train where it has none."""
    hydra_config = HydraConfig.get()
    command: str | None = "train"
    overrides: list[str] = []
    if "trainer" in hydra_config.runtime.choices:
        command = hydra_config.job.config_name
        task = hydra_config.overrides.task
        overrides = [o for o in task if not o.startswith(("trainer=", "trainer."))]
    return _loader().load_configuration(command, [*overrides, f"trainer={name}"], RunMode.RUN)


def _loader() -> ConfigLoader:
    hydra = GlobalHydra.instance().hydra
    if hydra is None:
        raise RuntimeError("trainers are listed only while Hydra is running a command")
    return hydra.config_loader
