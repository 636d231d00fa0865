"""A denoiser divided over two processes against one process, and against two that each hold all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from svc.checkpoints.adapters import SPEAKER_TABLE
from svc.checkpoints.model_file import read_model_file
from svc.errors import UserError
from svc.training.distributed import DataParallelStrategy
from svc.training.sharding import ShardedStrategy
from svc.training.trainer import build_trainer
from training.test_distributed import STEPS, assert_same, results
from training.tiny_mel_singer import tiny_singer
from training.tiny_training import tiny_module

HALFWAY = 10
PARTS = 5
"""Two blocks, two wide projections and the rest are exchanged one by one."""


def sharded(run_dir: Path, **options: Any) -> list[dict[str, Any]]:
    """Two processes that divide a DiffSVC."""
    defaults = {"arch": "diffusion", "strategy": "fsdp", "shares": 2, "accumulate": 1}
    return results(run_dir, 2, **{**defaults, **options})


def undivided(run_dir: Path, **options: Any) -> dict[str, Any]:
    """One process that has all the data at once."""
    defaults = {"arch": "diffusion", "shares": 2, "accumulate": 0}
    (found,) = results(run_dir, 1, **{**defaults, **options})
    return found


def last(run_dir: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(
        run_dir / "checkpoints" / "last.ckpt", weights_only=True
    )
    return checkpoint


def outline(node: Any) -> Any:
    """What a checkpoint is made of, without its numbers."""
    if isinstance(node, dict):
        return {key: outline(value) for key, value in node.items()}
    if isinstance(node, list):
        return [outline(value) for value in node]
    return (type(node), node.shape, node.dtype) if isinstance(node, Tensor) else type(node)


def assert_close(found: Any, wanted: Any) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.slow
def test_sharded_processes_learn_what_one_learns_and_continue_each_other(tmp_path: Path) -> None:
    whole = undivided(tmp_path / "whole", save_at=HALFWAY)
    first, second = sharded(tmp_path / "two", save_at=HALFWAY)
    assert_same(first, whole)
    assert_close(first["weights"], second["weights"])

    # Each holds half of what learns; the frozen vocoder is whole in both.
    learning, all_of_it = whole["held"]["states"], whole["held"]["weights"]
    for found in (first, second):
        assert found["held"]["states"] == pytest.approx(learning / 2, rel=0.01)
        assert found["held"]["average"] == pytest.approx(learning / 2, rel=0.01)
        saved = all_of_it - found["held"]["weights"]
        assert saved == pytest.approx(learning / 2, rel=0.01)
    assert first["calls"]["reduce_scatter_tensor"] == STEPS * PARTS

    from_one, _ = sharded(
        tmp_path / "one_then_two",
        **{"from": str(tmp_path / "whole" / "then.ckpt")},
        back_to=str(tmp_path / "whole" / "then.ckpt"),
    )
    from_two = undivided(tmp_path / "two_then_one", **{"from": str(tmp_path / "two" / "then.ckpt")})
    for continued in (from_one, from_two):
        assert len(continued["norms"]) == STEPS - HALFWAY
        assert_close(continued["weights"], whole["weights"])
    halfway = torch.load(tmp_path / "whole" / "then.ckpt", weights_only=True)["state_dict"]
    for name, value in from_one["back"].items():
        assert torch.equal(value, halfway[name]), name


@pytest.mark.slow
def test_accumulated_gradients_are_exchanged_once(tmp_path: Path) -> None:
    whole = undivided(tmp_path / "whole", shares=4, kept_rows=[0])
    first, second = sharded(tmp_path / "two", shares=4, accumulate=2, kept_rows=[0])
    assert_same(first, whole)
    for found in (first, second):  # each of which holds one of the two rows
        table = found["weights"][f"generator.{SPEAKER_TABLE}"]
        untrained = tiny_singer("diffusion").state_dict()[SPEAKER_TABLE]
        assert torch.equal(table[0], untrained[0])
        assert not torch.equal(table[1], untrained[1])
    assert first["calls"]["reduce_scatter_tensor"] == STEPS * PARTS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "tolerance", "further"),
    [
        ("32-true", 1e-5, {}),
        ("32-true", 1e-5, {"lora": 2}),
        ("bf16-mixed", 1e-5, {}),
        ("16-mixed", 1e-5, {}),
    ],
)
def test_sharded_and_data_parallel_runs_are_the_same(
    tmp_path: Path, precision: str, tolerance: float, further: dict[str, Any]
) -> None:
    shared = {"arch": "flow", "random": True, "precision": precision, **further}
    first, second = sharded(tmp_path / "sharded", **shared)
    wanted, _ = results(tmp_path / "whole", 2, shares=2, accumulate=1, **shared)
    for name, value in wanted["weights"].items():
        for found in (first, second):
            torch.testing.assert_close(
                found["weights"][name], value, atol=tolerance, rtol=tolerance, msg=name
            )
    assert first["skipped"] == wanted["skipped"]
    found = last(tmp_path / "sharded")
    assert outline(found) == outline(last(tmp_path / "whole"))
    model = read_model_file(tmp_path / "sharded" / "checkpoints" / "last.ckpt")
    tiny_singer("flow").load_state_dict(model.generator)


def test_networks_that_are_not_worth_it_are_refused() -> None:
    with pytest.raises(UserError, match=r"trainer\.strategy=fsdp: HifiSingerModule"):
        ShardedStrategy()._setup_model(tiny_module())


def test_a_single_device_has_nothing_to_divide(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for devices in (2, 1):
        trainer = build_trainer(
            run_dir=tmp_path, accelerator="cpu", devices=devices, strategy="fsdp"
        )
        assert isinstance(trainer.strategy, ShardedStrategy) == (devices == 2)
        assert isinstance(trainer.strategy, DataParallelStrategy) == (devices == 2)
        assert ("nothing to divide" in caplog.text) == (devices == 1)
