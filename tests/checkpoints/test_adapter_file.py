"""Adapters as files: what was written comes back, and what is broken is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from svc.checkpoints.adapter_file import (
    ADAPTER_KEY,
    Adapter,
    AdapterFacts,
    base_fingerprint,
    read_adapter,
    write_adapter,
)
from svc.errors import UserError
from svc.models.lora import LowRankDelta


def adapter() -> Adapter:
    rng = torch.Generator().manual_seed(0)
    facts = AdapterFacts(
        base_file="base.safetensors",
        base_sha256="a" * 64,
        base_fingerprint="b" * 64,
        rank=2,
        scale=1.5,
        speakers=["anna"],
        licence="CC BY 4.0",
        parents=[{"file": "base.safetensors", "sha256": "a" * 64, "kind": "svc", "licence": None}],
    )
    deltas = {
        name: LowRankDelta(
            1e-6 * torch.randn(outputs, 2, generator=rng), torch.randn(2, 6, generator=rng), 1.5
        )
        for name, outputs in (("backbone.input.weight", 4), ("conditioner.content.weight", 3))
    }
    return Adapter(facts, deltas, torch.randn(1, 8, generator=rng))


def product(delta: LowRankDelta) -> Tensor:
    return delta.added_to(torch.zeros(len(delta.up), 2, 3))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    write_adapter(path, adapter())
    return path


@pytest.fixture
def changed(written: Path) -> Callable[..., Path]:
    """The file with other tensors or facts."""

    def change(facts: dict[str, Any] | None = None, **tensors: Tensor | None) -> Path:
        with safe_open(written, framework="pt") as file:
            plain = json.loads(file.metadata()[ADAPTER_KEY])
        kept = {**load_file(written), **tensors}
        save_file(
            {name: value for name, value in kept.items() if value is not None},
            written,
            {ADAPTER_KEY: json.dumps({**plain, **(facts or {})})},
        )
        return written

    return change


def test_what_was_written_comes_back(written: Path) -> None:
    back, original = read_adapter(written), adapter()
    assert back.facts == original.facts
    assert back.speakers.equal(original.speakers)
    assert back.deltas.keys() == original.deltas.keys()
    for name, delta in original.deltas.items():
        assert product(back.deltas[name]).equal(product(delta))
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_half_precision_is_half_the_size_and_keeps_three_digits_of_tiny_updates(
    tmp_path: Path,
) -> None:
    half, whole, original = tmp_path / "half", tmp_path / "whole", adapter()
    write_adapter(half, original, torch.float16)
    write_adapter(whole, original)
    sizes = [
        sum(v.numel() * v.element_size() for v in load_file(path).values())
        for path in (half, whole)
    ]
    assert 2 * sizes[0] == sizes[1]
    back = read_adapter(half)
    assert back.speakers.dtype == torch.float32
    for name, delta in original.deltas.items():
        expected = product(delta)
        error = (product(back.deltas[name]) - expected).norm() / expected.norm()
        assert 0 < error < 1e-3


def test_a_fingerprint_is_that_of_the_weights_in_either_precision() -> None:
    rng = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(4, 6, generator=rng) for name in ("a.weight", "b.weight", "c")}
    wanted = base_fingerprint(weights, ["a.weight", "b.weight"])
    rounded = {name: value.half().float() for name, value in weights.items()}
    assert base_fingerprint(rounded, ["b.weight", "a.weight"]) == wanted
    assert (
        base_fingerprint({**weights, "c": weights["a.weight"]}, ["a.weight", "b.weight"]) == wanted
    )
    others = [
        base_fingerprint(weights, ["a.weight"]),
        base_fingerprint({**weights, "b.weight": weights["c"]}, ["a.weight", "b.weight"]),
        base_fingerprint(
            {**weights, "b.weight": weights["b.weight"].view(6, 4)}, ["a.weight", "b.weight"]
        ),
    ]
    assert wanted not in others


def test_what_is_no_adapter_is_refused(tmp_path: Path, written: Path) -> None:
    with pytest.raises(UserError, match=r"no adapter .*none\.safetensors.*adapters=\[FILE:SCALE\]"):
        read_adapter(tmp_path / "none.safetensors")
    text = tmp_path / "text.safetensors"
    text.write_text("<html>not found</html>" * 20)
    model = tmp_path / "model.safetensors"
    save_file({"generator.x": torch.zeros(2)}, model, {"svc": "{}"})
    pickled = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}}, pickled)
    short = tmp_path / "short.safetensors"
    short.write_bytes(written.read_bytes()[:-10])
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    for path in (text, pickled, short, empty):
        with pytest.raises(UserError, match=rf"{path.name} cannot be read"):
            read_adapter(path)
    with pytest.raises(UserError, match=r"model\.safetensors is not an adapter.*checkpoint=FILE"):
        read_adapter(model)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"backbone.input.weight.up": None}, r"missing or make no sense.*input\.weight\.down"),
        ({"backbone.input.weight.down": None}, r"missing or make no sense.*input\.weight\.down"),
        ({"speakers": None}, "missing or make no sense.*speakers"),
        ({"speakers": torch.zeros(1, 8, dtype=torch.int64)}, "make no sense.*speakers"),
        ({"anything": torch.zeros(2)}, "missing or make no sense.*anything"),
        ({"backbone.input.weight.up": torch.full((4, 2), float("nan"))}, r"NaN.*input\.weight\.up"),
        ({"speakers": torch.full((1, 8), float("inf"))}, "infinite.*speakers"),
        ({"backbone.input.weight.up": torch.zeros(4, 3)}, r"shapes.*\[4, 3\] x \[2, 6\]"),
        ({"backbone.input.weight.up": torch.zeros(8)}, r"shapes.*\[8\] x \[2, 6\]"),
        ({"speakers": torch.zeros(2, 8)}, r"1 speakers have rows \[2, 8\]"),
    ],
)
def test_broken_weights_are_named(
    changed: Callable[..., Path], tensors: dict[str, Tensor | None], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        read_adapter(changed(**tensors))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"format_version": 99, "svc_version": "7.0"}, r"svc 7\.0 in format 99.*Install a newer"),
        ({"format_version": "1"}, "format 1.*Install a newer"),
        ({"scale": float("nan")}, "make no sense"),
        ({"scale": "loud"}, "lacks facts"),
        ({"speakers": [1]}, "make no sense"),
        ({"speakers": "a"}, "make no sense"),
        ({"base_fingerprint": None}, "make no sense"),
    ],
)
def test_broken_facts_are_refused(
    changed: Callable[..., Path], facts: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        read_adapter(changed(facts))


def test_missing_facts_are_named(written: Path) -> None:
    for text, told in (
        (json.dumps({"format_version": 1}), "lacks facts.*base_file"),
        ("[]", "sense"),
        ("{", "sense"),
    ):
        save_file(load_file(written), written, {ADAPTER_KEY: text})
        with pytest.raises(UserError, match=told):
            read_adapter(written)


def test_one_without_speakers_is_whole(tmp_path: Path) -> None:
    original = adapter()
    facts = replace(original.facts, speakers=[])
    write_adapter(tmp_path / "a", replace(original, facts=facts, speakers=torch.zeros(0, 8)))
    assert read_adapter(tmp_path / "a").speakers.shape == (0, 8)
