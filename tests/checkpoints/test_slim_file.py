"""One safetensors file: what comes back, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import FORMAT_VERSION, CheckpointFacts
from svc.checkpoints.slim_file import FACTS_KEY, read_slim, write_slim
from svc.errors import UserError

FACTS = CheckpointFacts(
    config={"arch": {"generator": {"_target_": "svc.models.x.Y"}}, "lr": 1e-4, "resume": None},
    audio=AudioSpec(),
    features={"content": {"coefficients": 13}},
    feature_fingerprint="abc",
    speakers=["Ada", "", "Jürgen"],
    content_channels=13,
    licence="CC-BY-4.0",
    parents=[{"file": "a.ckpt", "sha256": "0" * 64, "kind": "svc", "licence": None}],
)


def weights(rng: torch.Generator) -> dict[str, Tensor]:
    return {
        "layer.weight": torch.randn(8, 4, 3, generator=rng),
        "layer.bias": torch.randn(8, generator=rng),
        "layer.gain": torch.randn(8, 1, 1, generator=rng),
        "steps": torch.tensor(7),
        "transposed": torch.randn(4, 8, generator=rng).T,
    }


@pytest.fixture
def generator() -> dict[str, Tensor]:
    return weights(torch.Generator().manual_seed(0))


def test_float32_comes_back_to_the_bit(tmp_path: Path, generator: dict[str, Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    judges = weights(torch.Generator().manual_seed(1))
    write_slim(path, FACTS, generator, judges)
    read = read_slim(path)
    assert read.facts == FACTS
    for ours, theirs in ((read.generator, generator), (read.discriminator, judges)):
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in theirs)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_float16_halves_matrices_and_keeps_rows(
    tmp_path: Path, generator: dict[str, Tensor]
) -> None:
    path = tmp_path / "a.safetensors"
    write_slim(path, FACTS, generator, dtype=torch.float16)
    read = read_slim(path).generator
    for name in ("layer.weight", "transposed"):
        assert read[name].dtype == torch.float32
        assert read[name].equal(generator[name].half().float())
        assert not read[name].equal(generator[name])
    for name in ("layer.bias", "layer.gain", "steps"):
        assert read[name].equal(generator[name])
        assert read[name].dtype == generator[name].dtype
    assert not read_slim(path).discriminator


def test_weights_that_share_memory_are_written(tmp_path: Path) -> None:
    table = torch.randn(4, 4)
    write_slim(tmp_path / "a.safetensors", FACTS, {"a": table, "b": table[:2]})
    read = read_slim(tmp_path / "a.safetensors").generator
    assert read["b"].equal(table[:2])


def test_others_may_read_the_file(tmp_path: Path, generator: dict[str, Tensor]) -> None:
    (tmp_path / "plain").touch()
    write_slim(tmp_path / "a.safetensors", FACTS, generator)
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("broken", "dtype", "words"),
    [
        (float("nan"), torch.float32, ["NaN", "1 of 5", "generator.layer.weight"]),
        (float("inf"), torch.float16, ["NaN or infinite"]),
        (-7e4, torch.float16, ["65504", "generator.layer.weight (7e+04)", "precision=fp32"]),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path,
    generator: dict[str, Tensor],
    broken: float,
    dtype: torch.dtype,
    words: list[str],
) -> None:
    generator["layer.weight"][0, 0, 0] = broken
    with pytest.raises(UserError) as error:
        write_slim(tmp_path / "a.safetensors", FACTS, generator, dtype=dtype)
    for word in words:
        assert word in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_large_row_survives_float16(tmp_path: Path, generator: dict[str, Tensor]) -> None:
    generator["layer.bias"][0] = 7e4
    write_slim(tmp_path / "a.safetensors", FACTS, generator, dtype=torch.float16)
    assert read_slim(tmp_path / "a.safetensors").generator["layer.bias"][0] == 7e4


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as error:
        read_slim(path)
    for word in (str(path), *words):
        assert word in str(error.value), str(error.value)


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "a.safetensors", "There is no model")
    refused(tmp_path, "There is no model")


@pytest.mark.parametrize("share", [0.0, 0.005, 0.1, 0.5, 0.99])
def test_cut_short(tmp_path: Path, generator: dict[str, Tensor], share: float) -> None:
    path = tmp_path / "a.safetensors"
    write_slim(path, FACTS, generator)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "cut short")


@pytest.mark.parametrize("content", [b"a text, and no model\n" * 4, bytes(100), b"\xff" * 100])
def test_not_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    refused(path, "no safetensors file")


def saved(path: Path, metadata: dict[str, str] | None, **tensors: Tensor) -> Path:
    save_file(tensors or {"generator.a": torch.ones(2)}, path, metadata)
    return path


def facts_with(**changes: Any) -> dict[str, str]:
    return {FACTS_KEY: json.dumps(FACTS.to_plain() | changes)}


def test_files_of_others(tmp_path: Path) -> None:
    refused(saved(tmp_path / "a.safetensors", None), "not a model of svc")
    refused(saved(tmp_path / "b.safetensors", {"format": "pt"}), "not a model of svc")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"facts"', "[" * 100_000])
def test_facts_that_are_no_facts(tmp_path: Path, text: str) -> None:
    refused(saved(tmp_path / "a.safetensors", {FACTS_KEY: text}), "make no sense")


def test_facts_that_are_not_whole_or_newer(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    refused(saved(path, {FACTS_KEY: json.dumps({"format_version": 2})}), "lacks facts")
    refused(saved(path, facts_with(speakers=3)), "speakers", "damaged")
    newer = facts_with(format_version=FORMAT_VERSION + 1, svc_version="9.9")
    refused(saved(path, newer), "svc 9.9", "a newer version of svc")


def test_weights_that_belong_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    one = torch.ones(2)
    refused(saved(path, facts_with(), **{"discriminator.a": one}), "no weights of a generator")
    both = {"generator.a": one, "encoder.a": one + 1}
    refused(saved(path, facts_with(), **both), "belong to nothing (encoder.a)")


def test_weights_that_cannot_sing(tmp_path: Path) -> None:
    broken = torch.tensor([1.0, float("nan")])
    path = saved(tmp_path / "a.safetensors", facts_with(), **{"generator.a": broken})
    refused(path, "NaN", "for example generator.a")


def test_the_version_written_is_ours(tmp_path: Path, generator: dict[str, Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    write_slim(path, replace(FACTS, svc_version="0.0.1", format_version=1), generator)
    assert read_slim(path).facts == FACTS
