"""How far training is, how it goes and when it will be done."""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SHOWN = {
    "train_loss_gen": "gen",
    "train_loss_disc": "disc",
    "train_loss_aux": "aux",
    "train_loss": "loss",
    "valid_loss": "valid",
}
"""Metrics that fit on the line, and what they are called there."""


class TrainingProgressBar(ProgressBar):
    """A bar over the generator updates with losses, steps per second and time left.

    Where the output is not a terminal it writes a line now and then instead.

    Args:
        line_every_s: seconds between lines where there is no terminal.
        console: where to write; standard error by default.
    """

    def __init__(self, line_every_s: float = 30.0, console: Console | None = None) -> None:
        super().__init__()
        self.line_every_s = line_every_s
        self.console = console or Console(file=sys.stderr, soft_wrap=True)
        self._enabled = True
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def enable(self) -> None:
        """Show progress (Lightning calls this on the first process)."""
        self._enabled = True

    def disable(self) -> None:
        """Stay silent (Lightning calls this on the other processes)."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start at the step that the run has reached already."""
        self._start_s = self._line_s = time.monotonic()
        self._start_step = self._line_step = trainer.global_step
        if self._enabled and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                "training", total=_total(trainer), completed=trainer.global_step, numbers=""
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Move on."""
        now_s = time.monotonic()
        step = trainer.global_step
        if self._bar is not None:
            rate = (step - self._start_step) / max(now_s - self._start_s, 1e-9)
            numbers = f"{rate:.2f} steps/s  {_losses(trainer)}"
            self._bar.update(self._task, completed=step, numbers=numbers)
        elif self._enabled and now_s - self._line_s >= self.line_every_s:
            self._write_line(trainer, now_s)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say why the bar stands still."""
        self._describe("validating")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Back to training."""
        self._describe("training")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar, or write the last line."""
        if self._bar is None and self._enabled:
            self._write_line(trainer, time.monotonic())
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the terminal in order."""
        self._close()

    def _describe(self, activity: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=activity)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _write_line(self, trainer: Trainer, now_s: float) -> None:
        step, total = trainer.global_step, _total(trainer)
        rate = (step - self._line_step) / max(now_s - self._line_s, 1e-9)
        line = f"step {step}" if total is None else f"step {step}/{total}"
        line += f"  {rate:.2f} steps/s"
        if total is not None and rate > 0 and step < total:
            line += f"  {duration_text((total - step) / rate)} left"
        self.console.print(f"{line}  {_losses(trainer)}".rstrip(), highlight=False)
        self._line_s, self._line_step = now_s, step


def duration_text(seconds: float) -> str:
    """Seconds as a person says them: "40 s", "12 min", "3 h 05 min", "2 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


def _total(trainer: Trainer) -> int | None:
    return trainer.max_steps if trainer.max_steps > 0 else None


def _losses(trainer: Trainer) -> str:
    """The losses that were logged last; reading newer ones would wait for the device."""
    metrics = trainer.callback_metrics
    return "  ".join(
        f"{short} {float(metrics[name]):.3f}" for name, short in SHOWN.items() if name in metrics
    )
