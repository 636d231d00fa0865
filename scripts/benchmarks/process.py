"""Work in a fresh process, whose memory and caches are its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from svc.memory import keep_freed_memory


def in_a_process(module: str, *arguments: str) -> Any:
    """Run a module of this folder with as many torch threads as this process has.

    Args:
        module: name in this folder; its `main` takes its arguments from `arguments_here`.
        arguments: of that.

    Returns:
        What the last line that it prints holds as JSON.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", f"benchmarks.{module}", str(torch.get_num_threads())]
    done = subprocess.run(
        [*command, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        env=environment,
        encoding="utf-8",
    )
    return json.loads(done.stdout.splitlines()[-1])


def arguments_here() -> list[str]:
    """In the fresh process: its arguments, once torch is set up as in the one that started it."""
    threads, *arguments = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    keep_freed_memory()  # as the commands do
    return arguments
