"""Whether every precision and compile mode computes what fp32 without compilation does."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gpu_checks.cases import PRECISIONS

COMPILED_TOLERANCE = 2.0
"""Kernels that round in another order may differ so many times as much."""


def judge(
    training: Sequence[dict[str, Any]], conversion: Sequence[dict[str, Any]]
) -> dict[str, list[str]]:
    """`passed` and `failed` checks, a line each; what was measured gets its differences in place.

    Compared are the losses of the first step, before any update, and loosely the total loss of the
    last steps: trainings drift apart however little they begin to differ, and adversarial ones
    the most.
    """
    passed: list[str] = []
    failed: list[str] = []
    exact = {
        run["arch"]: run
        for run in training
        if run["status"] == "done" and (run["precision"], run["compile"]) == ("fp32", "off")
    }
    for run in training:
        name = f"training {run['arch']}, {run['precision']}, compile {run['compile']}"
        if run["status"] != "done":
            if run["status"] == "failed":
                failed.append(f"{name}: {run['reason']}")
            continue
        reference = exact.get(run["arch"])
        if reference is None or run.get("batch") != reference.get("batch"):
            continue
        difference = largest_difference(reference["first_losses"], run["first_losses"])
        drift = largest_difference(_total(reference["last_losses"]), _total(run["last_losses"]))
        run |= {"difference_from_fp32": round(difference, 6), "drift": round(drift, 4)}
        precision = PRECISIONS[run["precision"]]
        allowed = precision.tolerance
        allowed *= 1 if run["compile"] == "off" else COMPILED_TOLERANCE
        line = (
            f"{name}: losses of the first step within {difference:.1e} of fp32 (allowed "
            f"{allowed:.0e}), of the last steps within {drift:.1%} (allowed {precision.drift:.0%})"
        )
        (passed if difference <= allowed and drift <= precision.drift else failed).append(line)
    for run in conversion:
        name = f"conversion {run['arch']}, {run['precision']}"
        if run["status"] == "failed":
            failed.append(f"{name}: {run['reason']}")
        if run.get("snr_db") is None:
            continue
        least = PRECISIONS[run["precision"]].snr_db
        line = f"{name}: {run['snr_db']:g} dB from fp32 (at least {least:g})"
        (passed if run["snr_db"] >= least else failed).append(line)
    return {"passed": passed, "failed": failed}


def largest_difference(exact: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Largest relative difference of the losses; infinite where one is missing or not finite."""
    differences = []
    for name, value in _losses(exact).items():
        found = other.get(name, math.inf)
        differences.append(abs(found - value) / max(abs(value), 1e-6))
    return max((d if math.isfinite(d) else math.inf for d in differences), default=math.inf)


def _total(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in ("train_loss_gen", "train_loss") if name in metrics}


def _losses(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.startswith("train_loss")}
