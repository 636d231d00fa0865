"""A LoRA training: only updates learn, it resumes to the bit, and its adapter is all of it."""

from pathlib import Path

import torch
from torch import Tensor

from svc.checkpoints.adapter_file import write_adapter
from svc.checkpoints.adapters import adapter_of, apply_adapters
from svc.checkpoints.model_file import ModelFile, read_model_file
from svc.checkpoints.training_checkpoint import load_trained_state
from svc.models.hifisinger import HifiSinger
from svc.models.lora import add_lora, split_lora_state
from svc.training.runs import fit
from training.tiny_training import FACTS, TinyData, tiny_generator, tiny_module, tiny_trainer


def base() -> HifiSinger:
    torch.manual_seed(7)
    return tiny_generator()


def adapted() -> HifiSinger:
    generator = base().requires_grad_(False)
    add_lora(generator, 2)
    return generator


def learnt(state: dict[str, Tensor]) -> set[str]:
    """Names of adapted weights whose updates are not zero any more."""
    return {name for name, delta in split_lora_state(state)[1].items() if delta.up.any()}


def all_but_key_shift() -> set[str]:
    """The batches are in their own key, so that its projection gets no gradient."""
    return set(split_lora_state(adapted().state_dict())[1]) - {"conditioner.key_shift.weight"}


def train(run_dir: Path, steps: int, resume_from: Path | None = None, **options: str) -> Path:
    trainer = tiny_trainer(run_dir, steps, save_every_steps=1, **options)
    fit(trainer, tiny_module(adapted()), TinyData(), resume_from)
    assert trainer.global_step == steps
    return run_dir / "checkpoints" / "last.ckpt"


def test_weights_stay_to_the_bit_and_updates_learn_and_resume(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 4)
    half = train(tmp_path / "half", 2)
    resumed = train(tmp_path / "resumed", 4, half)
    states = [load_trained_state(path)[1] for path in (half, whole, resumed)]
    before = base().state_dict()
    for state in states:
        unchanged, _ = split_lora_state(state)
        assert unchanged.keys() == before.keys()
        assert all(unchanged[name].equal(before[name]) for name in before)
        assert learnt(state) == all_but_key_shift()
    assert all(states[1][name].equal(states[2][name]) for name in states[1])
    assert not all(states[0][name].equal(states[1][name]) for name in states[1])


def test_the_adapter_on_its_base_is_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = train(tmp_path, 3)
    adapter = tmp_path / "adapter.safetensors"
    write_adapter(adapter, adapter_of(checkpoint))
    model = ModelFile(Path("base"), FACTS, base().state_dict())
    merged = apply_adapters(model, [(adapter, 1.0)]).generator
    expected = read_model_file(checkpoint).generator
    assert merged.keys() == expected.keys()
    assert all(merged[name].equal(expected[name]) for name in expected)
    assert not all(merged[name].equal(weight) for name, weight in base().state_dict().items())


def test_mixed_precision_trains_updates_in_full(tmp_path: Path) -> None:
    _, state = load_trained_state(train(tmp_path, 2, precision="bf16-mixed"))
    _, deltas = split_lora_state(state)
    assert {delta.up.dtype for delta in deltas.values()} == {torch.float32}
    assert learnt(state) == all_but_key_shift()
