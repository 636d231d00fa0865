"""How long commands take to answer, from an empty folder."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Options, Section, figure

COMMANDS = (
    (("svc-train", "--help"), 2.0),
    (("svc-train", "--cfg", "job"), 3.0),
    (("svc-infer", "--help"), 2.0),
)


def measure(options: Options) -> Section:
    """Best wall time of whole processes."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for words, target in COMMANDS:
            seconds = min(_seconds(words, folder) for _ in range(options.repeats))
            figures.append(figure(" ".join(words), seconds, "s", at_most=target))
    return {
        "settings": f"Whole processes, from an empty folder; the best of {options.repeats}.",
        "figures": figures,
    }


def _seconds(words: tuple[str, ...], folder: str) -> float:
    program = Path(sys.executable).with_name(words[0])
    start = time.perf_counter()
    subprocess.run([program, *words[1:]], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
