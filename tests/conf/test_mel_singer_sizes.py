"""How large the architectures that sample mels are."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import nn

from svc.config.instantiate import build
from svc.config.paths import conf_dir
from svc.config.resolvers import register_resolvers
from svc.config.schema import register_schemas
from svc.models.mel_singer import MelSinger

SIZES = {
    "diffsvc": (54_994_560, 69_374_732),
    "diffsvc_tiny": (1_218_816, 1_686_400),
    "diffsvc_large": (84_226_048, 98_606_220),
    "flowsvc": (54_994_560, 70_719_372),
    "flowsvc_tiny": (1_218_816, 1_837_344),
}
"""Parameters of the denoiser, and of everything with the vocoder of its size."""


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    register_schemas()
    register_resolvers()
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("arch", SIZES)
def test_every_size_has_its_parameters(arch: str) -> None:
    vocoder = "nsf_hifigan_tiny" if arch.endswith("tiny") else "nsf_hifigan"
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [f"arch={arch}", f"vocoder={vocoder}"])
    node: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
        config.arch.generator, resolve=True
    )
    # Shapes without numbers, but for the filters that the tiny vocoder computes at once.
    with torch.device("cpu" if arch.endswith("tiny") else "meta"):
        singer = build(node, conditioner={"content_channels": 256, "speakers": 2})
    assert isinstance(singer, MelSinger)
    assert (parameters(singer.denoiser), parameters(singer)) == SIZES[arch]
