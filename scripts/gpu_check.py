#!/usr/bin/env python
"""Checks and measures every precision and compile mode on a CUDA device (scripts/gpu_check.sh).

The report is written anew after every measurement; with --add, a later run goes on with what an
earlier one on the same device had no time for.
"""

import argparse
import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gpu_checks.agreement import judge
from gpu_checks.cases import (
    ARCHITECTURES,
    COMPILE_MODES,
    CONVERTED,
    PRECISIONS,
    SIZES,
    Case,
    problem_of,
)
from gpu_checks.report import fraction_of_rate, markdown

DEFAULT_OUT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
CPU_PRECISIONS = ("fp32", "bf16")
NO_TIME = "no time was left"


def main() -> None:
    """Run, report, and exit with 1 where a check failed."""
    options = _options()
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "gpu_check: this machine has no CUDA device that PyTorch can use. "
            "--device cpu runs the same ways, small.",
            file=sys.stderr,
        )
        sys.exit(2)
    if (problem := problem_of("fp32", options.device)) is not None:
        print(f"gpu_check: {problem}.", file=sys.stderr)
        sys.exit(2)
    report = _begun(options)
    deadline_s = time.monotonic() + options.limit_s
    _measure(report, options, deadline_s)
    _write(report, options.out)
    for line in report["checks"]["failed"]:
        print(f"failed: {line}", file=sys.stderr)
    print(
        f"{len(report['checks']['passed'])} checks passed, {len(report['checks']['failed'])} failed"
    )
    sys.exit(1 if report["checks"]["failed"] else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=SIZES, help="full on cuda, small on cpu by default")
    parser.add_argument("--batch", type=int, help="crops per step; 32 at full size, 2 if small")
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS)
    parser.add_argument("--compile", nargs="+", choices=COMPILE_MODES, default=COMPILE_MODES)
    parser.add_argument("--only", choices=("training", "conversion"), help="both by default")
    parser.add_argument(
        "--cudnn-benchmark",
        choices=("on", "off"),
        default="on",
        help="whether cuDNN measures which of its ways is fastest",
    )
    parser.add_argument(
        "--limit-s", type=float, default=3600, help="what is not done by then is left"
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder of the reports")
    parser.add_argument("--add", action="store_true", help="keep what the JSON there holds already")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    options.size = options.size or ("full" if on_gpu else "small")
    options.batch = SIZES[options.size].batch if options.batch is None else options.batch
    options.precision = options.precision or (tuple(PRECISIONS) if on_gpu else CPU_PRECISIONS)
    if "fp32" not in options.precision and not options.add:
        parser.error("--precision: the others are compared with fp32; name it as well")
    if options.limit_s <= 0 or options.batch < 1:
        parser.error("--limit-s must be above 0, and --batch at least 1")
    return options


def _begun(options: argparse.Namespace) -> dict[str, Any]:
    """A new report, or the one that is there."""
    device = _describe(options.device)
    path = _path(device, options.out)
    if options.add and path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return known
    size = SIZES[options.size]
    return {
        "device": device,
        "date": datetime.date.today().isoformat(),
        "settings": f"Size {options.size}: {size.timed} steps timed after {size.warm_up}.",
        "rates": {},
        "training": [],
        "conversion": [],
    }


def _describe(kind: str) -> dict[str, Any]:
    import torch

    if kind == "cpu":
        from benchmarks.machine import processor
        from svc.memory import total_bytes

        name, memory = processor(), total_bytes() or 0
        capability = torch.backends.cpu.get_cpu_capability()
    else:
        properties = torch.cuda.get_device_properties(0)
        name, memory = properties.name, properties.total_memory
        capability = f"{properties.major}.{properties.minor}"
    return {
        "name": name,
        "kind": kind,
        "capability": capability,
        "memory_gib": round(memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _measure(report: dict[str, Any], options: argparse.Namespace, deadline_s: float) -> None:
    """Rates, conversion, training; what could not be measured is there with the reason."""
    common = [options.device, options.size]
    if not report["rates"]:
        rates, _ = _lines(["rates", *common], deadline_s)
        report["rates"] = rates[0] if rates else {}
    if options.only != "training":
        for arch in options.arch:
            precisions = [name for name in CONVERTED if name in options.precision]
            wanted = [{"arch": arch, "precision": name} for name in precisions]
            _measure_cases(report["conversion"], wanted, ["conversion", *common, arch], deadline_s)
    if options.only != "conversion":
        modes = [mode for mode in COMPILE_MODES if mode in options.compile]
        for arch in options.arch:
            for precision in options.precision:
                settings = [options.cudnn_benchmark, str(options.batch), ",".join(modes)]
                cases = [Case(arch, precision, mode).as_dict() for mode in modes]
                what = ["training", *common, arch, *settings]
                _measure_cases(report["training"], cases, what, deadline_s)
                _write(report, options.out)


def _measure_cases(
    kept: list[dict[str, Any]], cases: list[dict[str, Any]], what: list[str], deadline_s: float
) -> None:
    """Have a worker do `what` in the precisions of the cases that the device can compute."""
    device = what[1]
    problems = {case["precision"]: problem_of(case["precision"], device) for case in cases}
    for case in cases:
        if (problem := problems[case["precision"]]) is not None:
            _keep(kept, [case], [{**case, "status": "not run", "reason": problem}], None)
    possible = [case for case in cases if problems[case["precision"]] is None]
    names = ",".join(name for name, problem in problems.items() if problem is None)
    if possible:
        _keep(kept, possible, *_lines([*what, names], deadline_s))


def _keep(
    kept: list[dict[str, Any]],
    wanted: list[dict[str, Any]],
    found: list[dict[str, Any]],
    ended: str | None,
) -> None:
    """Put measurements in place of older ones of the same; what is missing says why, where there
    is no older one."""
    for case in wanted:
        old = [run for run in kept if run.items() >= case.items()]
        new = [run for run in found if run.items() >= case.items()]
        if not new and (ended == NO_TIME and old):
            continue
        status = "not run" if ended == NO_TIME else "failed"
        kept[:] = [run for run in kept if run not in old]
        kept += new or [{**case, "status": status, "reason": ended or "it said nothing"}]


def _lines(arguments: list[str], deadline_s: float) -> tuple[list[dict[str, Any]], str | None]:
    """What a worker printed, and why it is not all, if it is not."""
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        return [], NO_TIME
    print(f"{' '.join(arguments)} …", file=sys.stderr, flush=True)
    started_s = time.monotonic()
    worker = subprocess.Popen(
        [sys.executable, "-m", "gpu_checks.worker", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that the compiler's processes end with it
    )
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _end(worker)

    timer = threading.Timer(left_s, give_up)
    timer.start()
    try:
        assert worker.stdout is not None
        found = [json.loads(line) for line in worker.stdout if line.startswith("{")]
        code = worker.wait()
    finally:
        timer.cancel()
        _end(worker)
    print(f"  {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)
    if late.is_set():
        return found, NO_TIME
    return found, None if code == 0 else f"its process ended with exit code {code}"


def _end(worker: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)


def _complete(report: dict[str, Any]) -> None:
    """Fractions of the device's rate, and the checks."""
    done = [run for run in report["training"] if run["status"] == "done"]
    work = {(run["arch"], run["batch"]): run["gflop"] for run in done if "gflop" in run}
    for run in done:
        gflop = work.get((run["arch"], run["batch"]))
        if gflop is not None and report["rates"]:
            run["fraction_of_matmul_rate"] = fraction_of_rate(run, gflop, report["rates"])
    report["checks"] = judge(report["training"], report["conversion"])


def _write(report: dict[str, Any], folder: Path) -> None:
    _complete(report)
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(report["device"], folder)
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(report), encoding="utf-8")


def _path(device: dict[str, Any], folder: Path) -> Path:
    return folder / (re.sub(r"[^a-z0-9]+", "-", device["name"].lower()).strip("-") + ".json")


if __name__ == "__main__":
    main()
