"""Several processes and accumulated batches against one process with all the data at once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from svc.cli.processes import _environments
from svc.training import distributed

SCRIPT = Path(__file__).with_name("distributed_training.py")
TESTS = SCRIPT.parents[1]
STEPS = 20


def started(run_dir: Path, processes: int, **options: Any) -> list[subprocess.Popen[str]]:
    """The processes of a run."""
    environments = _environments(processes) if processes > 1 else {0: {}}
    for environment in environments.values():
        environment.pop("SVC_PARENT_PROCESS", None)
    run_dir.mkdir(parents=True)
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(run_dir), json.dumps(options)],
            env={**os.environ, **environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for environment in environments.values()
    ]


def results(run_dir: Path, processes: int, **options: Any) -> list[dict[str, Any]]:
    """What each process of a whole run came to."""
    running = started(run_dir, processes, **{"steps": STEPS, **options})
    for process in running:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
    return [
        torch.load(run_dir / f"result_{rank}.pt", weights_only=True) for rank in range(processes)
    ]


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert len(wanted["norms"]) == STEPS
    for mine, theirs in zip(found["norms"], wanted["norms"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    assert found["weights"].keys() == wanted["weights"].keys()
    for name, value in wanted["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_twice_the_batch(tmp_path: Path) -> None:
    (whole,) = results(tmp_path / "whole", 1, shares=2, accumulate=0)
    first, second = results(tmp_path / "two", 2, shares=2, accumulate=1)
    assert_same(first, whole)
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
    # Checkpoints are written once, and by the first.
    assert (tmp_path / "two" / "checkpoints" / "last.ckpt").is_file()
    start = torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=True)
    assert start["global_step"] == STEPS


@pytest.mark.slow
def test_accumulated_batches_and_a_penalty_make_the_same_update(tmp_path: Path) -> None:
    (whole,) = results(tmp_path / "whole", 1, shares=4, accumulate=0, r1_weight=1.0, scales=False)
    (one,) = results(tmp_path / "one", 1, shares=4, accumulate=4, r1_weight=1.0, scales=False)
    two, _ = results(tmp_path / "two", 2, shares=4, accumulate=2, r1_weight=1.0, scales=False)
    assert_same(one, whole)
    assert_same(two, whole)


def test_buckets_hold_one_type_and_about_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "BUCKET_BYTES", 40)
    gradients = [torch.zeros(n) for n in (4, 6, 1)] + [torch.zeros(3, dtype=torch.float16)]
    buckets = distributed._buckets(gradients)
    assert [[len(g) for g in bucket] for bucket in buckets] == [[4, 6], [1], [3]]
    assert [gradient for bucket in buckets for gradient in bucket] == gradients


def test_gradients_are_averaged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    class Work:
        def wait(self) -> None: ...

    def all_reduce(tensor: torch.Tensor, async_op: bool) -> Work:
        sent.append(tensor.clone())
        tensor *= 3  # the others add twice the same
        return Work()

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    weights = [
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(1, 3)),
        nn.Parameter(torch.zeros(1)),
    ]
    weights[0].grad, weights[1].grad = torch.tensor([1.0, 2.0]), torch.ones(1, 3)
    average = distributed.GradientAverage()
    average.begin(weights[:1])
    average.begin(weights)
    average.finish()
    assert [len(tensor) for tensor in sent] == [2, 3]
    assert weights[0].grad.tolist() == [1, 2]
    assert weights[1].grad.tolist() == [[1, 1, 1]]
    assert weights[2].grad is None
    average.begin(weights[:1])  # the next update
    assert len(sent) == 3
