#!/usr/bin/env python
"""Measures the toolkit beside what the machine can do, and prints JSON.

    python scripts/bench.py                              # everything, some ten minutes
    python scripts/bench.py startup crops --repeats 3
    python scripts/bench.py preparation --recordings FOLDER --hours 1 --repeats 1
    python scripts/bench.py --json bench.json --table docs/benchmarks.md

Nothing else should run meanwhile. Progress goes to stderr.
"""

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import Options, better_of, completed
from benchmarks.machine import describe_machine, measure_rates
from benchmarks.table import markdown
from svc.memory import keep_freed_memory

SECTIONS = (
    "startup",
    "crops",
    "preparation",
    "features",
    "tiny_step",
    "conversion",
    "training_step",
    "diffusion",
    "train",
)


def main() -> None:
    """Run sections, print the report and write it where wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs; the best counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--recordings", type=Path, help="real recordings for `preparation`")
    parser.add_argument(
        "--hours", type=float, help="of `preparation` on all cores: --recordings, repeated"
    )
    parser.add_argument("--whisper", type=Path, help="folder of a Whisper model for `features`")
    parser.add_argument("--json", type=Path, help="write the JSON here as well")
    parser.add_argument("--table", type=Path, help="write Markdown tables here")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if arguments.repeats < 1 or arguments.threads < 1:
        parser.error("--repeats and --threads must be at least 1")
    if arguments.hours is not None and (arguments.recordings is None or arguments.hours <= 0):
        parser.error("--hours must be above 0 and needs --recordings")
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as the commands do
    options = Options(
        repeats=arguments.repeats,
        recordings=arguments.recordings,
        hours=arguments.hours,
        whisper=arguments.whisper,
    )
    report = run(arguments.sections or SECTIONS, options)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    if arguments.table:
        arguments.table.write_text("# Benchmarks\n\n" + markdown(report), encoding="utf-8")


def run(sections: list[str] | tuple[str, ...], options: Options) -> dict[str, Any]:
    """-> `machine` with the best rates of the whole run, and `sections`."""
    best = before = measure_rates()
    results = {}
    for name in sections:
        _tell(f"{name} …")
        start = time.perf_counter()
        section = importlib.import_module(f"benchmarks.{name}").measure(options)
        seconds = time.perf_counter() - start
        after = measure_rates()
        results[name] = completed(section, before, after)
        _tell(f"{name}: {seconds:.0f} s, Conv1d {after.conv1d_fp32:g} GFLOP/s in fp32 afterwards")
        best = better_of(best, after)
        before = after
    return {"machine": describe_machine(best), "repeats": options.repeats, "sections": results}


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
