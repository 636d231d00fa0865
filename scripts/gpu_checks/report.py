"""The check's JSON as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

PREDECESSOR = (
    "The predecessor trains its HiFiSinger with batches of 32 at about 2 steps/s on a T4, 4 on a "
    "V100 and 6 to 8 on an A100, by its own account."
)


def markdown(report: Mapping[str, Any]) -> str:
    """A page with the device, its rates, and a table for each kind of measurement."""
    device, settings = report["device"], report["settings"]
    blocks = [
        f"# {device['name']}",
        f"Made by `scripts/gpu_check.sh` on {report['date']}: torch {device['torch']}, "
        f"CUDA {device['cuda']}, {device['memory_gib']:g} GiB. {settings}",
        _rates(report["rates"]),
    ]
    if report["training"]:
        blocks += ["## Training", _training_words(), _training(report)]
    if report["conversion"]:
        blocks += ["## Conversion", _conversion(report["conversion"])]
    for run in report["training"]:
        if "kernels" in run:
            blocks.append(_kernels(run))
    blocks += ["## Checks", _checks(report["checks"])]
    return "\n\n".join(blocks) + "\n"


def _rates(rates: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        f"| {name.replace('_', ' ')} | " + ", ".join(f"{k} {v:g}" for k, v in values.items()) + " |"
        for name, values in rates.items()
    ]
    return "| rate | |\n|---|---|\n" + "\n".join(rows)


def _training_words() -> str:
    return (
        "The real trainer and modules, with all losses, both clippings, AdamW and the moving "
        "average, on one batch that lies on the device. The rate is the work of a step (counted) "
        "over its time and the device's matrix rate in that precision. First steps: with "
        "compilation. Difference: of the first step's losses from fp32 without compilation; drift: "
        "of the total loss of the last five steps. " + PREDECESSOR
    )


def _training(report: Mapping[str, Any]) -> str:
    header = (
        "| arch | precision | compile | batch x frames | steps/s | audio s/s | of the matrix rate "
        "| peak GiB | first steps s | difference | drift |"
    )
    rows = [header, "|---" * 11 + "|"]
    for run in report["training"]:
        head = f"| {run['arch']} | {run['precision']} | {run['compile']} | "
        if run["status"] != "done":
            rows.append(head + f"{run['status']}: {_in_cell(run['reason'])} |" + " |" * 7)
            continue
        share = run.get("fraction_of_matmul_rate")
        cells = (
            f"{run['batch']} x {run['frames']}",
            f"{run['steps_per_s']:.3g}",
            f"{run['audio_s_per_s']:.4g}",
            "" if share is None else f"{share:.0%}",
            f"{run['peak_gib']:.3g}",
            f"{run['first_steps_s']:.3g}",
            f"{run.get('difference_from_fp32', float('nan')):.1e}",
            f"{run.get('drift', float('nan')):.1%}",
        )
        rows.append(head + " | ".join(cells) + " |")
    return "\n".join(rows)


def _conversion(runs: Sequence[Mapping[str, Any]]) -> str:
    rows = ["| arch | precision | audio s | seconds | times real time | peak GiB | dB from fp32 |"]
    rows.append("|---" * 7 + "|")
    for run in runs:
        if run["status"] != "done":
            reason = _in_cell(run["reason"])
            rows.append(
                f"| {run['arch']} | {run['precision']} | {run['status']}: {reason} |" + " |" * 4
            )
            continue
        snr = "" if run["snr_db"] is None else f"{run['snr_db']:g}"
        rows.append(
            f"| {run['arch']} | {run['precision']} | {run['audio_s']:g} | {run['seconds']:.3g} "
            f"| {1 / run['real_time_factor']:.0f} | {run.get('peak_gib', '')} | {snr} |"
        )
    return "\n".join(rows)


def _in_cell(reason: str) -> str:
    """The beginning of a message, on one line and without what ends a cell."""
    return " ".join(reason.split())[:80].replace("|", "/")


def _kernels(run: Mapping[str, Any]) -> str:
    kernels = run["kernels"]
    rows = ["| ms per step | share | calls | kernel |", "|---|---|---|---|"]
    rows += [
        f"| {kernel['ms']:.3g} | {kernel['share']:.0%} | {kernel['calls']} "
        f"| `{kernel['name'].replace('|', '/')}` |"
        for kernel in kernels["slowest"]
    ]
    return (
        f"### Kernels: {run['arch']}, {run['precision']}, compile {run['compile']}\n\n"
        f"A step takes {1e3 * run['step_s']:.3g} ms, in which the device computes for "
        f"{kernels['busy_ms']:.3g} ms, in {kernels['launches']} launches.\n\n" + "\n".join(rows)
    )


def _checks(checks: Mapping[str, Sequence[str]]) -> str:
    lines = [f"- **failed** {line}" for line in checks["failed"]]
    lines += [f"- passed: {line}" for line in checks["passed"]]
    return "\n".join(lines) or "None."


def fraction_of_rate(run: Mapping[str, Any], gflop: float, rates: Mapping[str, Any]) -> float:
    """A step's work over its time and the matrix rate of its precision."""
    rate = rates["matmul_tflop_per_s"][run["precision"]]
    return round(gflop / run["step_s"] / 1e3 / rate, 4)
