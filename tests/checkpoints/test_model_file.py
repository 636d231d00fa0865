"""Files of every kind come in by one door."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from svc.checkpoints.layouts.base import KeyReport, PublishedModel
from svc.checkpoints.model_file import (
    OWN_KIND,
    facts_of_published,
    portable_config,
    read_model_file,
)
from svc.checkpoints.runs import checkpoint_to_convert_with
from svc.checkpoints.slim_file import write_slim
from svc.checkpoints.training_checkpoint import load_trained_state
from svc.config.instantiate import build
from svc.errors import UserError
from svc.inference.loading import load_model
from tiny_checkpoint import checkpoint
from tiny_lora import lora_training

__all__ = ["checkpoint"]
Write = Callable[..., Path]


def test_a_training_checkpoint_and_its_slim_file_are_one_model(
    checkpoint: Write, tmp_path: Path
) -> None:
    trained = checkpoint("diffsvc")
    facts, weights = load_trained_state(trained)
    slim = tmp_path / "slim.safetensors"
    write_slim(slim, facts, weights)
    renamed = tmp_path / "slim.bin"  # a name says nothing
    renamed.write_bytes(slim.read_bytes())
    for path in (trained, slim, renamed):
        model = read_model_file(path)
        assert (model.path, model.facts, model.kind) == (path, facts, OWN_KIND)
        assert model.report is None
        assert model.generator.keys() == weights.keys()
        assert all(model.generator[name].equal(weights[name]) for name in weights)


def test_discriminators_are_read_where_they_are_asked_for(
    checkpoint: Write, tmp_path: Path
) -> None:
    path = checkpoint("hifisinger")
    state = torch.load(path, weights_only=True)
    state["state_dict"]["discriminator.a"] = torch.tensor([float("nan")])
    torch.save(state, path)
    assert not read_model_file(path, with_discriminator=False).discriminator
    with pytest.raises(UserError, match="NaN"):
        read_model_file(path)
    state["state_dict"]["discriminator.a"] = torch.ones(1)
    torch.save(state, path)
    model = read_model_file(path)
    assert model.discriminator == {"a": torch.ones(1)}
    slim = tmp_path / "slim.safetensors"
    write_slim(slim, model.facts, model.generator, model.discriminator)
    assert read_model_file(slim).discriminator == {"a": torch.ones(1)}
    assert not read_model_file(slim, with_discriminator=False).discriminator


def test_what_lora_learned_is_in_the_weights(checkpoint: Write, tmp_path: Path) -> None:
    base = checkpoint("diffsvc")
    trained, adapter = lora_training(tmp_path, base, "lora", "carl")
    before, merged = read_model_file(base).generator, read_model_file(trained).generator
    assert merged.keys() == before.keys()
    assert any(
        not merged[name].equal(before[name])
        for name in before
        if merged[name].shape == before[name].shape
    )
    with pytest.raises(UserError, match="adapter") as error:
        read_model_file(adapter)
    assert f"adapters=[{adapter}:1.0]" in str(error.value)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as error:
        read_model_file(path)
    for word in (str(path), *words):
        assert word in str(error.value), str(error.value)


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "a.ckpt", "There is no checkpoint", ".safetensors")
    refused(tmp_path, "There is no checkpoint")


def test_cut_short(checkpoint: Write, tmp_path: Path) -> None:
    whole = checkpoint("nsf_hifigan").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.ckpt", "cut short")


def test_weights_of_another_shape_are_named(checkpoint: Write, tmp_path: Path) -> None:
    facts, weights = load_trained_state(checkpoint("hifisinger"))
    weights["mel_projection.weight"] = torch.zeros(128, 9, 1)
    write_slim(tmp_path / "a.safetensors", facts, weights)
    with pytest.raises(UserError, match="do not fit") as error:
        load_model(tmp_path / "a.safetensors")
    assert "mel_projection.weight" in str(error.value)


def test_parts_of_others_are_not_built(checkpoint: Write, tmp_path: Path) -> None:
    facts, weights = load_trained_state(checkpoint("nsf_hifigan"))
    facts.config["arch"]["generator"] = {"_target_": "os.system", "command": "touch harmed"}
    write_slim(tmp_path / "a.safetensors", facts, weights)
    with pytest.raises(UserError, match=r"os\.system"):
        load_model(tmp_path / "a.safetensors")


def published(**changes: Any) -> PublishedModel:
    values: dict[str, Any] = {
        "kind": "tiny",
        "choices": {"arch": "hifisinger_tiny", "content": "mfcc", "vocoder": "nsf_hifigan_tiny"},
        "settings": {"audio": {"mel_min_hz": 40.0}},
        "generator": {},
        "content_channels": 20,
        "speakers": ("anna", "bert", "carl"),
        "report": KeyReport(()),
    }
    return PublishedModel(**{**values, **changes})


def test_facts_of_a_published_model_are_those_that_training_would_have() -> None:
    facts = facts_of_published(published())
    assert facts.audio.mel_min_hz == 40.0
    assert facts.speakers == ["anna", "bert", "carl"]
    assert facts.config["vocoder"]["mel_min_hz"] == 40.0  # what refers to the setting follows
    assert facts.config["content"]["_target_"] == "svc.features.content.mfcc.MfccContent"
    assert "paths" not in facts.config
    node = facts.config["arch"]["generator"]
    network = build(node, trusted=False, **facts.run_time_arguments(node))
    assert network.conditioner.speaker.weight.shape[0] == 3
    assert network.conditioner.content.weight.shape[1] == 20


def test_published_models_that_hear_otherwise_are_told_apart() -> None:
    prints = [
        facts_of_published(published()).feature_fingerprint,
        facts_of_published(published(settings={"seed": 3})).feature_fingerprint,
        facts_of_published(published(settings={"pitch": {"f0_min_hz": 60.0}})).feature_fingerprint,
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_file_that_is_passed_on_does_not_tell_where_it_was_made(tmp_path: Path) -> None:
    config = {
        "paths": {"run_dir": str(tmp_path)},
        "logger": {"csv": {"save_dir": str(tmp_path)}},
        "callbacks": {"samples": {"folder": str(tmp_path)}},
        "content": {"model": str(tmp_path / "hubert.pt"), "layer": 9},
        "lr": 1e-3,
    }
    portable = portable_config(config)
    assert portable == {"content": {"model": "hubert.pt", "layer": 9}, "lr": 1e-3}
    assert config["content"] == {"model": str(tmp_path / "hubert.pt"), "layer": 9}
    assert portable_config({"content": {"model": "tiny.en"}}) == {"content": {"model": "tiny.en"}}


def test_a_folder_with_one_exported_model_stands_for_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder without a checkpoint"):
        checkpoint_to_convert_with(tmp_path)
    (tmp_path / ".b.safetensors.unfinished").touch()
    (tmp_path / "a.safetensors").touch()
    assert checkpoint_to_convert_with(tmp_path) == tmp_path / "a.safetensors"
    (tmp_path / "c.safetensors").touch()
    with pytest.raises(UserError, match=r"2 models \(a\.safetensors, c\.safetensors\)"):
        checkpoint_to_convert_with(tmp_path)
    (tmp_path / "last.ckpt").touch()
    assert checkpoint_to_convert_with(tmp_path) == tmp_path / "last.ckpt"


class Harmful:
    """Would make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._path,))


@pytest.mark.parametrize("kind", ["harmful", "foreign", "text", "empty", "numbers", "zip"])
def test_what_is_no_model_of_any_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.ckpt"
    torch_file = io.BytesIO()
    torch.save({"x": Harmful(tmp_path / "touched")}, torch_file)
    if kind == "foreign":
        save_file({"enc_p.weight": torch.ones(2)}, path)
    elif kind == "numbers":
        torch.save([1, 2], path)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "no model")
    else:
        content = {"harmful": torch_file.getvalue(), "text": b"seed: 0\n", "empty": b""}
        path.write_bytes(content[kind])
    refused(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
