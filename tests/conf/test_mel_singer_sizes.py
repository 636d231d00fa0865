"""How large the architectures that sample mels are."""

import pytest
import torch
from torch import nn

from svc.config.composition import composed
from svc.config.instantiate import build
from svc.models.mel_singer import MelSinger

SIZES = {
    "diffsvc": (54_994_560, 69_374_732),
    "diffsvc_tiny": (1_218_816, 1_686_400),
    "diffsvc_large": (84_226_048, 98_606_220),
    "flowsvc": (54_994_560, 70_719_372),
    "flowsvc_tiny": (1_218_816, 1_837_344),
}
"""Parameters of the denoiser, and of everything with the vocoder of its size."""


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("arch", SIZES)
def test_every_size_has_its_parameters(arch: str) -> None:
    vocoder = "nsf_hifigan_tiny" if arch.endswith("tiny") else "nsf_hifigan"
    node = composed("train", {"arch": arch, "vocoder": vocoder}, {})["arch"]["generator"]
    # Shapes without numbers, but for the filters that the tiny vocoder computes at once.
    with torch.device("cpu" if arch.endswith("tiny") else "meta"):
        singer = build(node, conditioner={"content_channels": 256, "speakers": 2})
    assert isinstance(singer, MelSinger)
    assert (parameters(singer.denoiser), parameters(singer)) == SIZES[arch]
