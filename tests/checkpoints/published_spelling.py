"""Modules of ours, written down as other toolkits would have saved them."""

from typing import Literal

import torch
from torch import Tensor, nn

Spelling = Literal["old", "new", "folded"]
"""How weight norm shows in the names."""

GENERATOR_LAYERS = {
    "input": "conv_pre",
    "output": "conv_post",
    "sine_source.mix": "m_source.l_linear",
}


def published_generator(generator: nn.Module, spelling: Spelling = "old") -> dict[str, Tensor]:
    """An `NsfHifiGan` with one-dimensional convolutions and published names."""
    blocks = len(generator.stages[0].blocks)  # type: ignore[union-attr, index, arg-type]
    return {
        name: weight.squeeze(2) if weight.ndim == 4 else weight
        for name, weight in spelled(generator, lambda n: generator_layer(n, blocks), spelling)
    }


def published_discriminators(module: nn.Module) -> dict[str, Tensor]:
    """`Discriminators` as `mpd.` and `msd.`."""
    return dict(spelled(module, discriminator_layer, "old"))


def generator_layer(layer: str, blocks: int) -> str:
    if layer in GENERATOR_LAYERS:
        return GENERATOR_LAYERS[layer]
    parts = layer.split(".")
    if parts[2] != "blocks":
        return f"{'ups' if parts[2] == 'upsample' else 'noise_convs'}.{parts[1]}"
    kind = "convs1" if parts[4] == "dilated" else "convs2"
    return f"resblocks.{int(parts[1]) * blocks + int(parts[3])}.{kind}.{parts[5]}"


def discriminator_layer(layer: str) -> str:
    kind, _, number, *rest = layer.split(".")
    inner = "conv_post" if rest == ["output"] else f"convs.{rest[1]}"
    return f"{'mpd' if kind == 'periods' else 'msd'}.discriminators.{number}.{inner}"


def spelled(module: nn.Module, rename, spelling: Spelling):  # type: ignore[no-untyped-def]
    """(published name, weight) of every entry of the state dict."""
    state = {name: weight.clone() for name, weight in module.state_dict().items()}
    for name, weight in state.items():
        layer, found, rest = name.partition(".parametrizations.weight.")
        if not found:
            layer, _, kind = name.rpartition(".")
            yield f"{rename(layer)}.{kind}", weight
        elif spelling == "new":
            yield f"{rename(layer)}.parametrizations.weight.{rest}", weight
        elif spelling == "old":
            yield f"{rename(layer)}.{OLD_NAMES[rest]}", weight
        elif rest == "original0":  # the length, whose direction is beside it
            direction = state[f"{layer}.parametrizations.weight.original1"]
            yield f"{rename(layer)}.weight", torch._weight_norm(direction, weight, 0)


OLD_NAMES = {
    "original0": "weight_g",
    "original1": "weight_v",
    "original": "weight_orig",
    "0._u": "weight_u",
    "0._v": "weight_v",
}
