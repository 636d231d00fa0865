"""What a LoRA training leaves behind, without the training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from svc.checkpoints.adapter_file import write_adapter
from svc.checkpoints.adapters import SPEAKER_TABLE, adapter_of
from svc.checkpoints.facts import parent_of
from svc.checkpoints.training_checkpoint import (
    TrainingProgress,
    load_trained_state,
    write_svc_state,
)
from svc.config.instantiate import build
from svc.models.lora import add_lora


def lora_training(
    folder: Path, base: Path, name: str, speaker: str, dtype: torch.dtype = torch.float32
) -> tuple[Path, Path]:
    """A checkpoint of a LoRA training on a base that adds a speaker, and the adapter out of it.
    Names of the same length have learned the same."""
    facts, weights = load_trained_state(base)
    known = weights[SPEAKER_TABLE]
    rng = torch.Generator().manual_seed(len(name + speaker))
    row = known.mean(0, keepdim=True) + 0.5 * torch.randn(1, known.shape[1], generator=rng)
    facts = replace(
        facts,
        speakers=[*facts.speakers, speaker],
        parents=[parent_of(base, "svc", "CC BY 4.0")],
        licence="MIT",
    )
    node = facts.config["arch"]["generator"]
    network = build(node, **facts.run_time_arguments(node))
    network.load_state_dict({**weights, SPEAKER_TABLE: torch.cat([known, row])})
    torch.manual_seed(len(name))
    add_lora(network, 4, alpha=6)
    for key, value in network.named_parameters():
        if key.endswith(".up"):
            nn.init.normal_(value, std=0.2)
    learnt = {f"generator.{key}": value for key, value in network.state_dict().items()}
    state: dict[str, Any] = {"state_dict": learnt}
    write_svc_state(state, facts, TrainingProgress(), {})
    trained, adapter = folder / f"{name}.ckpt", folder / f"{name}.safetensors"
    torch.save(state, trained)
    write_adapter(adapter, adapter_of(trained), dtype)
    return trained, adapter
