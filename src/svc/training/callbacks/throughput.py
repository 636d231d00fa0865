"""How fast training runs, and whether it waits for data."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from svc.data.batch import Batch
from svc.memory import peak_memory_gib
from svc.training.loader_clock import LoaderClock
from svc.training.metric_logging import log_metrics, logging_is_due


class Throughput(Callback):
    """Logs `perf/…` together with the losses; validation does not count.

    `perf/steps_per_s` generator updates per second, `perf/audio_s_per_s` seconds of training audio
    per second, `perf/data_wait_fraction` the share of the time in which training stood at its data
    loader (mels are made on the training device, and are work), `perf/host_mem_gib` the largest
    resident memory of this process so far, and on CUDA devices `perf/gpu_mem_gib` the largest
    amount of memory that tensors took since the last line. What the whole run came to is in
    `run_steps_per_s` and `gpu_peak_bytes`.

    Args:
        sample_rate_hz: of the training audio.
    """

    def __init__(self, sample_rate_hz: int = 44_100) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._loader = LoaderClock()
        self._restart()

    @property
    def run_steps_per_s(self) -> float | None:
        """Generator updates per second of the whole run; None before the second one."""
        return self._run_steps / self._run_s if self._run_steps else None

    def _restart(self) -> None:
        self._run_s, self._run_steps = 0.0, 0
        self.gpu_peak_bytes = 0
        """Largest amount of memory that tensors took, up to the last line of metrics."""
        self._idle_since_s: float | None = None
        self._waiting_s = 0.0
        self._elapsed_s = 0.0
        self._audio_samples = 0
        self._first_step: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen to how long the loader takes."""
        self._loader = LoaderClock(trainer.profiler)  # type: ignore[attr-defined]
        trainer.profiler = self._loader  # type: ignore[attr-defined]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen no more."""
        trainer.profiler = self._loader.inner  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget earlier runs. The first step, which warms caches up, is not counted."""
        self._restart()

    def on_train_batch_start(self, *_: Any) -> None:
        """The batch is there: the wait is over."""
        self._started_s, waited_s = time.perf_counter(), self._loader.take()
        if self._idle_since_s is not None:
            self._waiting_s += waited_s
            self._elapsed_s += self._started_s - self._idle_since_s
            self._run_s += self._started_s - self._idle_since_s

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the step, and log where the losses are logged."""
        now_s = time.perf_counter()
        if self._first_step is None:
            self._first_step = self._counted_step = trainer.global_step
        else:
            self._run_s += now_s - self._started_s
            self._run_steps += trainer.global_step - self._counted_step
            self._counted_step = trainer.global_step
            self._elapsed_s += now_s - self._started_s
            self._audio_samples += batch.audio.shape[0] * batch.audio.shape[-1]
        self._idle_since_s = now_s
        steps = trainer.global_step - self._first_step
        if steps > 0 and logging_is_due(trainer):
            log_metrics(trainer, self._figures(steps, pl_module.device), trainer.global_step)
            self._restart_window(trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The time since the last step was not spent waiting for data."""
        self._idle_since_s = None

    def _figures(self, steps: int, device: torch.device) -> dict[str, float]:
        figures = {
            "perf/steps_per_s": steps / self._elapsed_s,
            "perf/audio_s_per_s": self._audio_samples / self.sample_rate_hz / self._elapsed_s,
            "perf/data_wait_fraction": self._waiting_s / self._elapsed_s,
            "perf/host_mem_gib": peak_memory_gib(),
        }
        if device.type == "cuda":
            peak_bytes = torch.cuda.max_memory_allocated(device)
            self.gpu_peak_bytes = max(self.gpu_peak_bytes, peak_bytes)
            figures["perf/gpu_mem_gib"] = peak_bytes / 2**30
            torch.cuda.reset_peak_memory_stats(device)
        return figures

    def _restart_window(self, step: int) -> None:
        self._waiting_s = self._elapsed_s = 0.0
        self._audio_samples = 0
        self._first_step = step
