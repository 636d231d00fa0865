"""What callbacks and loggers add to the steps of the demo's model."""

import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.hook_clock import HookClock
from benchmarks.process import arguments_here
from benchmarks.steps import again_and_again, random_batch
from benchmarks.training_run import RunClock, parts_of, run_settings
from svc.training.callbacks.progress import TrainingProgressBar

LOGGERS = ("csv", "tensorboard", "wandb")
_NONE = "none"


def measured_steps(store: Path, logger: str, steps: int, *overrides: str) -> RunClock:
    """Steps on one batch in memory.

    Args:
        store: the prepared dataset.
        logger: with callbacks=default; "none" for neither callbacks nor loggers.
        steps: timed ones; the interval of the lines in the log divides them.
        overrides: of the configuration.
    """
    choice = [] if logger == _NONE else [f"logger={logger}"]
    with tempfile.TemporaryDirectory() as name, Path(os.devnull).open("w") as nowhere:
        settings = run_settings(store, Path(name), steps, "experiment=demo", *choice, *overrides)
        if logger == _NONE:
            settings["callbacks"] = settings["logger"] = {}
        parts = parts_of(settings)
        for callback in parts.trainer.callbacks:
            if isinstance(callback, TrainingProgressBar):  # as in a terminal, where it costs most
                callback.console = Console(file=nowhere, force_terminal=True, width=120)
        clock = RunClock(steps, HookClock())
        clock.hooks.listen_to_loggers(parts.trainer)
        parts.trainer.profiler = clock.hooks
        parts.trainer.callbacks.append(clock)
        data = settings["data"]
        batch = random_batch(data["batch_size"], data["crop_frames"], parts.data.content_channels)
        loader = again_and_again(batch, settings["trainer"]["max_steps"])
        parts.trainer.fit(parts.module, train_dataloaders=loader)
    return clock


def compared(store: Path, rounds: int, steps: int, *overrides: str) -> dict[str, Any]:
    """Every logger against nothing, in turns: what slows the machine down slows down both.

    Returns:
        By logger: `slower`, of each round the time of its steps over that without it, minus 1;
        `share`, the share of the steps that hooks of callbacks and loggers took by themselves; and
        `parts_ms`, what each of them took per step.
    """
    runs: dict[str, list[RunClock]] = {name: [] for name in (_NONE, *LOGGERS)}
    names = list(runs)
    for turn in range(rounds):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            runs[name].append(measured_steps(store, name, steps, *overrides))
    without_s = [sum(clock.between_ends_s) for clock in runs[_NONE]]
    return {name: _compared(runs[name], without_s) for name in LOGGERS}


def _compared(clocks: list[RunClock], without_s: list[float]) -> dict[str, Any]:
    totals_s = [sum(clock.between_ends_s) for clock in clocks]
    steps = sum(clock.timed_steps for clock in clocks)
    names = sorted({name for clock in clocks for name in clock.parts_s} - {RunClock.__name__})
    parts_s = {name: sum(clock.parts_s.get(name, 0.0) for clock in clocks) for name in names}
    return {
        "slower": [total / other - 1 for total, other in zip(totals_s, without_s, strict=True)],
        "share": sum(parts_s.values()) / sum(totals_s),
        "parts_ms": {name: round(1000 * part / steps, 4) for name, part in parts_s.items()},
        "step_ms": round(1000 * statistics.fmean(totals_s) / clocks[0].timed_steps, 2),
    }


def main() -> None:
    """In a fresh process: THREADS STORE ROUNDS STEPS OVERRIDES… -> one line of JSON."""
    store, rounds, steps, *overrides = arguments_here()
    os.environ["WANDB_MODE"], os.environ["WANDB_SILENT"] = "offline", "true"
    print(json.dumps(compared(Path(store), int(rounds), int(steps), *overrides)))


if __name__ == "__main__":
    main()
