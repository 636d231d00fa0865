"""Conversion with adapters: as the LoRA training that they come from, scaled, stacked, and refused
on any other model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from svc.checkpoints.adapter_file import read_adapter, write_adapter
from svc.checkpoints.adapters import SPEAKER_TABLE, adapter_of, apply_adapters
from svc.checkpoints.facts import parent_of
from svc.checkpoints.model_file import read_model_file
from svc.checkpoints.slim_file import write_slim
from svc.checkpoints.training_checkpoint import read_checkpoint
from svc.errors import UserError
from svc.hashing import file_sha256
from svc.inference.converter import Converter
from svc.inference.loading import load_model
from tiny_lora import lora_training

RATE = 44_100
ARCHITECTURES = ["hifisinger", "without_mel", "diffsvc", "flowsvc"]


def voice(seconds: float = 0.3) -> Tensor:
    time = torch.arange(int(seconds * RATE)) / RATE
    return 0.3 * torch.sin(2 * torch.pi * 220 * time) + 0.1 * torch.sin(2 * torch.pi * 440 * time)


def sung(path: Path, speaker: str, adapters: Sequence[tuple[Path, float]] = ()) -> Tensor:
    converter = Converter.from_checkpoint(path, device="cpu", adapters=adapters)
    return converter.convert(voice(), RATE, speaker=speaker)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """See `lora_training`."""
    return partial(lora_training, tmp_path)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_base_and_adapter_sing_as_the_checkpoint_that_was_trained(
    arch: str, checkpoint: Callable[..., Path], train: Callable[..., tuple[Path, Path]]
) -> None:
    base = checkpoint(arch)
    trained, adapter = train(base, "carl", "carl")
    for speaker in ("carl", "bert"):
        expected = sung(trained, speaker)
        torch.testing.assert_close(
            sung(base, speaker, [(adapter, 1.0)]), expected, atol=1e-5, rtol=0
        )
    assert not torch.allclose(sung(base, "bert"), expected, atol=1e-3)


def test_at_scale_zero_nothing_changes_but_the_speaker_table(
    checkpoint: Callable[..., Path], train: Callable[..., tuple[Path, Path]]
) -> None:
    base = checkpoint("diffsvc")
    _, adapter = train(base, "carl", "carl")
    plain, adapted = load_model(base), load_model(base, [(adapter, 0.0)])
    assert adapted.facts.speakers == ["anna", "bert", "carl"]
    before, after = plain.network.state_dict(), adapted.network.state_dict()
    assert after.keys() == before.keys()
    assert all(after[name].equal(before[name]) for name in before if name != SPEAKER_TABLE)
    assert after[SPEAKER_TABLE][:2].equal(before[SPEAKER_TABLE])
    assert sung(base, "anna", [(adapter, 0.0)]).equal(sung(base, "anna"))


def test_adapters_add_up_each_times_its_scale(
    checkpoint: Callable[..., Path], train: Callable[..., tuple[Path, Path]]
) -> None:
    base = checkpoint("hifisinger")
    files = [train(base, "carl", "carl")[1], train(base, "dora's", "dora")[1]]
    scales = [0.5, -2.0]
    stacked = load_model(base, list(zip(files, scales, strict=True)))
    assert stacked.facts.speakers == ["anna", "bert", "carl", "dora"]
    weights, plain = stacked.network.state_dict(), load_model(base).network.state_dict()
    adapters = [read_adapter(file) for file in files]
    for name, before in plain.items():
        expected = before.clone()
        for adapter, scale in zip(adapters, scales, strict=True):
            delta = adapter.deltas.get(name)
            if delta is not None:
                expected += scale * 1.5 * (delta.up @ delta.down).view_as(before)
        if name != SPEAKER_TABLE:
            torch.testing.assert_close(weights[name], expected, atol=1e-6, rtol=1e-5)
    rows = torch.cat([plain[SPEAKER_TABLE], *(adapter.speakers[-1:] for adapter in adapters)])
    assert weights[SPEAKER_TABLE].equal(rows)


def test_half_precision_of_base_and_adapter_is_close(
    checkpoint: Callable[..., Path], train: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    base = checkpoint("hifisinger")
    _, whole = train(base, "carl", "carl")
    _, half = train(base, "semi", "carl", torch.float16)  # as long a name, so the same numbers
    expected = sung(base, "carl", [(whole, 1.0)])
    state = read_checkpoint(base)
    state["state_dict"] = {k: v.half().float() for k, v in state["state_dict"].items()}
    torch.save(state, tmp_path / "rounded.ckpt")  # as after an export to float16
    got = sung(tmp_path / "rounded.ckpt", "carl", [(half, 1.0)])
    assert 0 < (got - expected).norm() / expected.norm() < 0.01


def test_an_adapter_of_another_model_says_which_it_wants(
    checkpoint: Callable[..., Path], train: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    base = checkpoint("hifisinger")
    _, adapter = train(base, "carl", "carl")
    state = read_checkpoint(base)
    state["state_dict"]["generator.backbone.skip.weight"] += 0.01
    torch.save(state, tmp_path / "other.ckpt")
    wanted = read_adapter(adapter).facts.base_fingerprint[:12]
    told = r"carl\.safetensors was trained on another.*checkpoint=\S*{}.*hifisinger\.ckpt "
    told += rf"\(SHA-256 {file_sha256(base)[:12]}\) with weights {wanted}; "
    for other in (tmp_path / "other.ckpt", checkpoint("diffsvc"), checkpoint("nsf_hifigan")):
        with pytest.raises(UserError, match=told.format(other.name)):
            load_model(other, [(adapter, 1.0)])


def test_slim_files_of_a_base_take_its_adapters_and_what_is_merged_becomes_one(
    checkpoint: Callable[..., Path], train: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    base = checkpoint("hifisinger")
    trained, adapter = train(base, "carl", "carl")
    expected = read_model_file(trained).generator
    model, slim = read_model_file(base), tmp_path / "slim.safetensors"
    for dtype, tolerance in ((torch.float32, 0.0), (torch.float16, 2e-3)):
        write_slim(slim, model.facts, model.generator, dtype=dtype)
        merged = apply_adapters(read_model_file(slim), [(adapter, 1.0)])
        write_slim(tmp_path / "merged.safetensors", merged.facts, merged.generator)
        back = read_model_file(tmp_path / "merged.safetensors")
        assert back.facts.speakers == ["anna", "bert", "carl"]
        assert back.generator.keys() == expected.keys()
        for name, weight in expected.items():
            torch.testing.assert_close(back.generator[name], weight, atol=tolerance, rtol=0)


def test_facts_say_where_a_voice_came_from_and_what_may_be_done_with_it(
    checkpoint: Callable[..., Path], train: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    base = checkpoint("hifisinger")
    _, adapter = train(base, "carl", "carl")
    facts = read_adapter(adapter).facts
    assert (facts.licence, facts.rank, facts.scale) == ("MIT", 4, 1.5)
    assert facts.parents == [parent_of(base, "svc", "CC BY 4.0")]
    stacked = load_model(base, [(adapter, 1.0)]).facts
    assert stacked.licence == read_model_file(base).facts.licence
    assert stacked.parents == [parent_of(adapter, "adapter", "MIT")]


def test_a_checkpoint_without_lora_has_no_adapter(checkpoint: Callable[..., Path]) -> None:
    for arch in ("hifisinger", "nsf_hifigan"):
        with pytest.raises(UserError, match=r"no adapter in .*lora\.rank=16"):
            adapter_of(checkpoint(arch))


def test_what_was_merged_is_another_base(
    checkpoint: Callable[..., Path], train: Callable[..., tuple[Path, Path]]
) -> None:
    base = checkpoint("hifisinger")
    trained, adapter = train(base, "carl", "carl")
    with pytest.raises(UserError, match=r"checkpoint=\S*carl\.ckpt.*merged into it"):
        load_model(trained, [(adapter, 1.0)])


def test_a_damaged_adapter_is_refused(
    checkpoint: Callable[..., Path], train: Callable[..., tuple[Path, Path]]
) -> None:
    base = checkpoint("hifisinger")
    _, path = train(base, "carl", "carl")
    adapter = read_adapter(path)
    long = {
        name: replace(delta, down=delta.down.repeat(1, 2)) for name, delta in adapter.deltas.items()
    }
    for damaged in (replace(adapter, deltas=long), replace(adapter, speakers=torch.zeros(3, 2))):
        write_adapter(path, damaged)
        with pytest.raises(UserError, match="damaged: shapes do not fit its base"):
            load_model(base, [(path, 1.0)])


def test_names_of_the_base_are_not_taken_and_of_two_adapters_the_last_one_wins(
    checkpoint: Callable[..., Path],
    train: Callable[..., tuple[Path, Path]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    base = checkpoint("hifisinger")
    _, taken = train(base, "taken", "carl")
    adapter = read_adapter(taken)
    write_adapter(taken, replace(adapter, speakers=adapter.speakers.flip(0)))
    with pytest.raises(UserError, match=r"brings a speaker anna, and .* has another one"):
        load_model(base, [(taken, 1.0)])
    (_, first), (_, second) = train(base, "first", "carl"), train(base, "second", "carl")
    loaded = load_model(base, [(first, 1.0), (second, 0.0)])
    assert loaded.facts.speakers == ["anna", "bert", "carl"]
    row = loaded.network.state_dict()[SPEAKER_TABLE][2]
    assert row.equal(read_adapter(second).speakers[-1])
    assert not row.equal(read_adapter(first).speakers[-1])
    assert "Several adapters bring carl" in caplog.text

    assert read_adapter(first).facts.speakers == ["anna", "bert", "carl"]  # the base's are no news


def test_half_an_update_in_a_checkpoint_is_refused(
    checkpoint: Callable[..., Path], train: Callable[..., tuple[Path, Path]]
) -> None:
    trained, _ = train(checkpoint("hifisinger"), "carl", "carl")
    state = read_checkpoint(trained)
    del state["state_dict"]["generator.backbone.skip.parametrizations.weight.0.down"]
    half = trained.with_name("half.ckpt")
    torch.save(state, half)
    with pytest.raises(UserError, match=r"damaged: low-rank updates are incomplete.*skip"):
        load_model(half)
