"""The JSON of `scripts/bench.py` as Markdown, for docs/benchmarks.md."""

from collections.abc import Mapping
from typing import Any

_HEADER = (
    "| figure | value | target | met | seconds | of the Conv1d rate |\n|---|---|---|---|---|---|"
)


def markdown(report: Mapping[str, Any]) -> str:
    """Machine facts, then one table per section.

    The share of the Conv1d rate is that of the work counted, where it was counted, or else of the
    work needed.
    """
    machine = report["machine"]
    rates = ", ".join(f"{name} {rate:g}" for name, rate in machine["gflop_per_s"].items())
    blocks = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['torch_threads']} threads, "
        f"torch {machine['torch']} ({machine['cpu_capability']}). GFLOP/s: {rates}."
    ]
    for name, section in report["sections"].items():
        used = section["gflop_per_s"]["used"]
        rows = "\n".join(_row(entry) for entry in section["figures"])
        blocks.append(
            f"### {name}\n\n{section['settings']}\n\nConv1d rate at the time: "
            f"{used['conv1d_fp32']:g} GFLOP/s in fp32, {used['conv1d_bf16']:g} in bf16.\n\n"
            f"{_HEADER}\n{rows}"
        )
    return "\n\n".join(blocks) + "\n"


def is_met(entry: Mapping[str, Any]) -> bool | None:
    """Whether a figure reaches its target; None where it has none."""
    if "at_most" in entry:
        return bool(entry["value"] <= entry["at_most"])
    if "at_least" in entry:
        return bool(entry["value"] >= entry["at_least"])
    return None


def _row(entry: Mapping[str, Any]) -> str:
    target = ""
    if "at_most" in entry:
        target = f"≤ {entry['at_most']:g}"
    elif "at_least" in entry:
        target = f"≥ {entry['at_least']:g}"
    met = {True: "yes", False: "**no**", None: ""}[is_met(entry)]
    seconds = f"{entry['seconds']:.3g}" if "seconds" in entry else ""
    share = entry.get("computed_fraction_of_conv1d_rate", entry.get("fraction_of_conv1d_rate"))
    fraction = "" if share is None else f"{share:.0%}"
    cells = (entry["name"], f"{entry['value']:.4g} {entry['unit']}", target, met, seconds, fraction)
    return f"| {' | '.join(cells)} |"
