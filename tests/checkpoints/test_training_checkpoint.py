from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from svc.atomic_file import replace_file
from svc.audio.spec import AudioSpec
from svc.checkpoints.atomic_io import AtomicCheckpointIO
from svc.checkpoints.facts import FORMAT_VERSION, CheckpointFacts
from svc.checkpoints.training_checkpoint import (
    TrainingProgress,
    load_progress,
    load_trained_state,
    read_svc_state,
    write_svc_state,
)
from svc.errors import UserError

FACTS = CheckpointFacts(
    config={"arch": {"channels": [1, 2]}, "resume": None, "lr": 1e-4},
    audio=AudioSpec(mel_bins=20, mel_min_hz=40.0),
    features={"content": {"coefficients": 13}},
    feature_fingerprint="abc",
    speakers=["Ada", "Jürgen"],
    content_channels=13,
)
PROGRESS = TrainingProgress(batches_seen=12, skipped_steps=2)


def make_checkpoint(facts: CheckpointFacts | None = FACTS, **weights: Any) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {
        "state_dict": weights
        or {
            "generator.input.weight": torch.zeros(2),
            "ema.network.input.weight": torch.ones(2),
            "discriminator.output.weight": torch.full((2,), 7.0),
            "ema._extra_state": {"updates": 3},
        }
    }
    write_svc_state(checkpoint, facts, PROGRESS, {"generator": {}, "discriminator": {}})
    return checkpoint


def save(path: Path, checkpoint: Any) -> Path:
    torch.save(checkpoint, path)
    return path


def test_facts_and_averaged_weights_come_back(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", make_checkpoint())
    facts, weights = load_trained_state(path)
    assert facts == FACTS
    assert {name: value.tolist() for name, value in weights.items()} == {"input.weight": [1, 1]}
    assert load_progress(path) == PROGRESS


def test_trained_weights_serve_where_there_is_no_average(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(**{"generator.a": torch.full((1,), 2.0)})
    _, weights = load_trained_state(save(tmp_path / "a.ckpt", checkpoint))
    assert {name: value.tolist() for name, value in weights.items()} == {"a": [2.0]}


def test_state_round_trip() -> None:
    checkpoint: dict[str, Any] = {}
    write_svc_state(checkpoint, None, PROGRESS, {"generator": {"scale": 8.0}})
    assert read_svc_state(checkpoint) == (PROGRESS, {"generator": {"scale": 8.0}})


def fails(path: Path, *expected: str) -> None:
    with pytest.raises(UserError) as error:
        load_trained_state(path)
    for words in (str(path), *expected):
        assert words in str(error.value)
    assert "Traceback" not in str(error.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    fails(tmp_path / "none.ckpt", "There is no checkpoint")
    fails(tmp_path, "There is no checkpoint")


@pytest.mark.parametrize("content", [b"", b"seed: 0\n", b"\x80\x02}q\x00."])
def test_not_a_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.ckpt"
    path.write_bytes(content)
    fails(path, "is not a checkpoint")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_cut_short(tmp_path: Path, share: float) -> None:
    path = save(tmp_path / "a.ckpt", make_checkpoint())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    fails(path, "cut short")


def test_objects_that_could_run_code_are_not_loaded(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "touched",))

    fails(save(tmp_path / "a.ckpt", {**make_checkpoint(), "x": Harmful()}), "could run code")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("checkpoint", [{"state_dict": {}}, {"svc": 1}, {"svc": {}}, [1], 3])
def test_checkpoints_of_others(tmp_path: Path, checkpoint: Any) -> None:
    fails(save(tmp_path / "a.ckpt", checkpoint), "not a checkpoint of svc-train")


def test_newer_format(tmp_path: Path) -> None:
    facts = replace(FACTS, format_version=FORMAT_VERSION + 1, svc_version="9.9")
    path = save(tmp_path / "a.ckpt", make_checkpoint(facts))
    fails(path, "svc 9.9", f"formats up to {FORMAT_VERSION}", "a newer version of svc")


def test_lost_facts(tmp_path: Path) -> None:
    fails(save(tmp_path / "none.ckpt", make_checkpoint(None)), "holds no facts")
    checkpoint = make_checkpoint()
    del checkpoint["svc"]["facts"]["speakers"]
    fails(save(tmp_path / "one.ckpt", checkpoint), "lacks facts", "speakers")


def test_weights_that_cannot_sing(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(**{"discriminator.a": torch.ones(1)})
    fails(save(tmp_path / "none.ckpt", checkpoint), "no weights of a generator")
    broken = torch.tensor([1.0, float("nan")])
    checkpoint = make_checkpoint(**{"ema.network.a": broken, "ema.network.b": torch.ones(1)})
    fails(save(tmp_path / "nan.ckpt", checkpoint), "NaN", "1 of 2", "for example a")


def test_interrupted_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)
    before = path.read_bytes()

    def write_half(unfinished: Path) -> None:
        unfinished.write_bytes(b"half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_file(path, write_half)
    assert path.read_bytes() == before
    AtomicCheckpointIO().save_checkpoint({"a": 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 2}
    replace_file(path, lambda unfinished: unfinished.write_bytes(b"new"))
    assert [p.name for p in path.parent.iterdir()] == ["a.ckpt"]
