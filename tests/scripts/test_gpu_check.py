"""The GPU check runs its ways without a GPU, judges them, and says what is missing."""

import json
import os
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = before


def run(precision: str, first: float, last: float, compile: str = "off") -> dict[str, Any]:
    return {
        "arch": "diffsvc",
        "precision": precision,
        "compile": compile,
        "status": "done",
        "first_losses": {"train_loss": first, "grad_norm/generator": 7.0},
        "last_losses": {"train_loss": last},
    }


def judged(*runs: dict[str, Any], conversion: Any = ()) -> dict[str, list[str]]:
    checks: dict[str, list[str]] = import_module("gpu_checks.agreement").judge(runs, conversion)
    return checks


def test_what_agrees_with_fp32_passes() -> None:
    checks = judged(
        run("fp32", 1.0, 0.5), run("bf16", 1.02, 0.52), run("fp32", 1.0, 0.5, "default")
    )
    assert len(checks["passed"]) == 3
    assert not checks["failed"]


@pytest.mark.parametrize(
    ("precision", "first", "last"),
    [
        ("bf16", 1.2, 0.5),
        ("bf16", 1.0, 0.7),
        ("bf16", float("nan"), 0.5),
        ("bf16", 1.0, float("inf")),
        ("tf32", 1.03, 0.5),
        ("fp16", 1.03, 0.5),
    ],
)
def test_what_does_not_agree_fails(precision: str, first: float, last: float) -> None:
    checks = judged(run("fp32", 1.0, 0.5), run(precision, first, last))
    assert len(checks["failed"]) == 1
    assert checks["failed"][0].startswith(f"training diffsvc, {precision}, compile off: losses of")


def test_what_broke_fails_and_what_had_no_time_does_not() -> None:
    broken = {"arch": "diffsvc", "precision": "bf16", "compile": "off", "reason": "Boom"}
    checks = judged(
        run("fp32", 1.0, 0.5), {**broken, "status": "failed"}, {**broken, "status": "not run"}
    )
    assert checks["failed"] == ["training diffsvc, bf16, compile off: Boom"]
    assert len(checks["passed"]) == 1


def test_conversions_are_compared_by_their_noise() -> None:
    near = {"arch": "hifisinger", "precision": "bf16", "status": "done", "snr_db": 40.0}
    far = {**near, "snr_db": 3.0}
    broken = {**near, "status": "failed", "snr_db": None, "reason": "exit code -9"}
    checks = judged(conversion=[near, far, broken])
    assert len(checks["passed"]) == 1
    assert len(checks["failed"]) == 2


def test_measurements_replace_older_ones_and_say_why_they_are_missing() -> None:
    keep = import_module("gpu_check")._keep
    case = {"arch": "diffsvc", "precision": "bf16", "compile": "off"}
    kept: list[dict[str, Any]] = []
    keep(kept, [case], [], "no time was left")
    assert kept == [{**case, "status": "not run", "reason": "no time was left"}]
    keep(kept, [case], [{**case, "status": "done", "step_s": 1.0}], None)
    assert kept == [{**case, "status": "done", "step_s": 1.0}]
    keep(kept, [case], [], "no time was left")
    assert kept[0]["status"] == "done"
    keep(kept, [case], [], "its process ended with exit code 1")
    assert kept == [{**case, "status": "failed", "reason": "its process ended with exit code 1"}]


def test_a_precision_that_the_device_has_not_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As bf16 on a T4; the others are measured."""
    check = import_module("gpu_check")
    asked: list[list[str]] = []

    def lines(arguments: list[str], deadline_s: float) -> Any:
        asked.append(arguments)
        return [{"arch": "diffsvc", "precision": "fp16", "status": "done"}], None

    monkeypatch.setattr(check, "_lines", lines)
    monkeypatch.setattr(check, "problem_of", lambda name, _: "too old" if name == "bf16" else None)
    cases = [{"arch": "diffsvc", "precision": name} for name in ("fp16", "bf16")]
    kept = [{**cases[1], "status": "failed", "reason": "of an earlier run"}]
    check._measure_cases(kept, cases, ["conversion", "cuda", "full", "diffsvc"], 0.0)
    assert asked == [["conversion", "cuda", "full", "diffsvc", "fp16"]]
    assert kept == [
        {**cases[1], "status": "not run", "reason": "too old"},
        {**cases[0], "status": "done"},
    ]
    assert not judged(conversion=kept)["failed"]
    check._measure_cases(kept, cases[1:], ["conversion", "cuda", "full", "diffsvc"], 0.0)
    assert len(asked) == 1


def test_too_little_memory_is_reported_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_case(case: Any, size: Any, *_: Any, **__: Any) -> dict[str, Any]:
        if case.compile == "off":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return {**case.as_dict(), "status": "done", "batch": size.batch}

    monkeypatch.setattr(import_module("gpu_checks.training"), "run_case", run_case)
    worker, cases = import_module("gpu_checks.worker"), import_module("gpu_checks.cases")
    settings = ("diffsvc", "on", "32", "off,default", "fp32")
    worker._train(torch.device("cpu"), cases.SIZES["full"], *settings)
    starved, done = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert starved["status"] == "not run"
    assert "out of memory at batch 32, --batch 16 takes less (CUDA out of" in starved["reason"]
    assert (done["status"], done["batch"]) == ("done", 32)


def test_batches_of_other_sizes_are_not_compared() -> None:
    checks = judged({**run("fp32", 1.0, 0.5), "batch": 32}, {**run("bf16", 3.0, 3.0), "batch": 16})
    assert len(checks["passed"]) == 1
    assert not checks["failed"]


def test_refuses_a_machine_without_a_gpu(tmp_path: Path) -> None:
    done = subprocess.run(
        [SCRIPTS / "gpu_check.sh", "--out", tmp_path],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr
    assert "--device cpu" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [{}, {"profile": True}, {"count_flop": True}])
def test_every_timed_step_counts(more: dict[str, bool]) -> None:
    cases = import_module("gpu_checks.cases")
    run_case = import_module("gpu_checks.training").run_case
    case, size = cases.Case("diffsvc", "fp32", "off"), cases.SIZES["small"]
    result = run_case(case, size, torch.device("cpu"), **more)
    assert len(result["step_s_halves"]) == 2
    assert result["step_s"] == pytest.approx(sum(result["step_s_halves"]) / 2, rel=0.01)
    assert ("kernels" in result) == ("profile" in more)
    assert ("gflop" in result) == ("count_flop" in more)


@pytest.mark.slow
def test_a_report_of_this_machine(tmp_path: Path) -> None:
    arguments = ["--device", "cpu", "--out", tmp_path, "--arch", "diffsvc", "--compile", "off"]
    done = subprocess.run(
        [SCRIPTS / "gpu_check.sh", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.json")
    report = json.loads(file.read_text(encoding="utf-8"))
    trained, converted = report["training"], report["conversion"]
    assert [entry["precision"] for entry in trained] == ["fp32", "bf16"]
    assert all(entry["status"] == "done" and entry["steps_per_s"] > 0 for entry in trained)
    assert trained[0]["gflop"] > 0
    assert trained[1]["kernels"]["slowest"][0]["ms"] > 0
    # A denoiser whose last weights are zeros would agree in every precision.
    assert 0 < trained[1]["difference_from_fp32"] < 0.05
    assert converted[1]["snr_db"] < 100
    assert not report["checks"]["failed"]
    page = file.with_suffix(".md").read_text(encoding="utf-8")
    assert "| diffsvc | bf16 | off |" in page
