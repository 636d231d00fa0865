"""A training run as svc-train makes it, measured from within."""

import csv
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.configuration import composed
from benchmarks.hook_clock import HookClock
from benchmarks.process import arguments_here
from benchmarks.steps import WARM_UP_STEPS, StepClock, quieten_lightning
from svc.cli.training_run import TrainingParts, prepared_store, training_parts, with_mel_bounds
from svc.config.instantiate import build
from svc.training.runs import fit

_MELS = "[LightningDataModule]SvcDataModule.on_after_batch_transfer"


class RunClock(StepClock):
    """A `StepClock` that goes on over epochs, and knows how long it was from the end of each step
    to that of the next: with the wait for data, and everything else that happens in between.

    It has to be the last of the callbacks.

    Args:
        timed_steps: how many.
        hooks: listens to the trainer.
    """

    def __init__(self, timed_steps: int, hooks: HookClock) -> None:
        super().__init__(timed_steps)
        self.hooks = hooks
        self.between_ends_s: list[float] = []
        self.parts_s: dict[str, float] = {}
        """Of callbacks and loggers, over all timed steps."""
        self._batches = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, index: int) -> None:
        """As `StepClock`."""
        super().on_train_batch_start(trainer, pl_module, batch, self._batches)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Note the time."""
        if WARM_UP_STEPS <= self._batches < WARM_UP_STEPS + self.timed_steps:
            self.between_ends_s.append(time.perf_counter() - self._ended_s)
            self.parts_s = self.hooks.by_part()
        super().on_train_batch_end(trainer, pl_module, outputs, batch, self._batches)
        self._batches += 1
        if self._batches == WARM_UP_STEPS:
            self.hooks.restart()
        self._ended_s = time.perf_counter()


def run_settings(store: Path, run_dir: Path, steps: int, *overrides: str) -> dict[str, Any]:
    """The configuration of a run of so many timed steps that writes no checkpoint and does not
    validate."""
    return composed(
        "train",
        f"paths.run_dir={run_dir}",
        f"paths.store_dir={store}",
        f"trainer.max_steps={WARM_UP_STEPS + steps + 1}",
        "trainer.limit_val_batches=0",
        "callbacks.checkpoints=null",
        *overrides,
    )


def prepare(settings: dict[str, Any], content: str = "") -> None:
    """Prepare the dataset of a run.

    Args:
        settings: of the run.
        content: target of another content encoder, or empty.
    """
    prepared_store(_with_content(settings, content), build(settings["audio"]))


def _with_content(settings: dict[str, Any], content: str) -> dict[str, Any]:
    return {**settings, "content": {"_target_": content}} if content else settings


def parts_of(settings: dict[str, Any]) -> TrainingParts:
    """What `svc-train` would train with, on a prepared dataset."""
    quieten_lightning()
    spec = build(settings["audio"])
    store = prepared_store(settings, spec)
    run_dir = Path(settings["paths"]["run_dir"])
    return training_parts(with_mel_bounds(settings, spec, store), spec, store, run_dir)


def measured_run(settings: dict[str, Any], steps: int) -> dict[str, Any]:
    """Train for so many timed steps, and log once, when they are done.

    Returns:
        `seconds` of every step, whatever happens in between included; `gflop` of one, `audio_s` of
        its crops, `batch_size` and `crop_frames`; the `peak_gib` of this process;
        `wait_fraction`, as the run's own log has it; `mel_s`, the mean time that the mels of a
        batch took; `parameters` of the generator.
    """
    run_dir = Path(settings["paths"]["run_dir"])
    settings["trainer"]["log_every_steps"] = WARM_UP_STEPS + steps
    parts = parts_of(settings)
    clock = RunClock(steps, HookClock())
    parts.trainer.profiler = clock.hooks
    parts.trainer.callbacks.append(clock)
    fit(parts.trainer, parts.module, parts.data)
    data, spec = settings["data"], parts.data.spec
    return {
        "seconds": clock.between_ends_s,
        "gflop": clock.gflop,
        "audio_s": data["batch_size"] * data["crop_frames"] / spec.frame_rate_hz,
        "batch_size": data["batch_size"],
        "crop_frames": data["crop_frames"],
        "peak_gib": clock.peak_gib,
        "wait_fraction": _logged(run_dir, "perf/data_wait_fraction"),
        "mel_s": clock.hooks.seconds[_MELS] / clock.hooks.calls[_MELS],
        "parameters": sum(p.numel() for p in parts.module.generator.parameters()),
    }


def _logged(run_dir: Path, metric: str) -> float:
    """Mean of a metric over the lines of a run's log."""
    (path,) = run_dir.rglob("metrics.csv")
    with path.open(encoding="utf-8") as file:
        return statistics.fmean(float(row[metric]) for row in csv.DictReader(file) if row[metric])


def main() -> None:
    """In a fresh process: THREADS STORE STEPS CONTENT OVERRIDES… -> one line of JSON.

    CONTENT is the target of another content encoder, or empty.
    """
    store, steps, content, *overrides = arguments_here()
    with tempfile.TemporaryDirectory() as run_dir:
        settings = run_settings(Path(store), Path(run_dir), int(steps), *overrides)
        print(json.dumps(measured_run(_with_content(settings, content), int(steps))))


if __name__ == "__main__":
    main()
