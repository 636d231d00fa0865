"""What is said of the speed of training, by a clock that only what is named here moves on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler

from svc.training.runs import fit
from training import tiny_training
from training.tiny_training import SPEC, TinyData, make_batch, tiny_module, tiny_trainer

LOADING_S, STEP_S, CHECKPOINT_S, VALIDATION_S = 3.0, 6.0, 2.0, 100.0


class Clock:
    """Stands still by itself."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s


class Work(Callback):
    """Takes its time within a step, after it, and in a validation."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_start(self, *_: Any) -> None:
        self.clock.now_s += STEP_S

    def on_train_batch_end(self, *_: Any) -> None:
        self.clock.now_s += CHECKPOINT_S

    def on_validation_epoch_start(self, *_: Any) -> None:
        self.clock.now_s += VALIDATION_S


class Lines(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.perf: dict[int, dict[str, float]] = {}

    @property
    def name(self) -> str:
        return "lines"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        perf = {name: value for name, value in metrics.items() if name.startswith("perf/")}
        if perf:
            self.perf[step or 0] = perf


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Moves on where a batch is loaded, too."""
    clock = Clock()
    for module in ("svc.training.loader_clock", "svc.training.callbacks.throughput"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(perf_counter=clock.perf_counter))

    def loaded(seed: int) -> Any:
        clock.now_s += LOADING_S
        return make_batch(seed)

    monkeypatch.setattr(tiny_training, "make_batch", loaded)
    return clock


def test_only_the_loader_is_waited_for(clock: Clock, tmp_path: Path) -> None:
    lines = Lines()
    trainer = tiny_trainer(tmp_path, 6, [Work(clock)], validate_every_steps=3, loggers=[lines])
    fit(trainer, tiny_module(), TinyData())
    between_s = CHECKPOINT_S + LOADING_S
    # Of a line every two steps: the first step of the run is not counted, nor what lies between
    # step 3 and 4, with a validation. An epoch ends after step 5.
    counted = {
        2: (1, between_s + STEP_S, LOADING_S),
        4: (2, between_s + 2 * STEP_S, LOADING_S),
        6: (2, 2 * between_s + 2 * STEP_S, 2 * LOADING_S),
    }
    for step, (steps, elapsed_s, waited_s) in counted.items():
        audio_s = steps * make_batch(0).audio[:, 0].numel() / SPEC.sample_rate_hz
        figures = dict(lines.perf[step])
        assert figures.pop("perf/host_mem_gib") >= 0  # as svc.memory measures it
        assert figures == pytest.approx(
            {
                "perf/steps_per_s": steps / elapsed_s,
                "perf/audio_s_per_s": audio_s / elapsed_s,
                "perf/data_wait_fraction": waited_s / elapsed_s,
            }
        ), step


def test_nothing_listens_after_the_training(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, 1)
    fit(trainer, tiny_module(), TinyData())
    assert isinstance(trainer.profiler, PassThroughProfiler)
