"""What each callback and logger takes of a training run's time."""

import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.profilers import Profiler

CALLBACK, LOGGER = "[Callback]", "[Logger]"


class HookClock(Profiler):
    """Adds up how long everything took that Lightning tells its profiler of, each without what it
    called in turn.

    Hooks of callbacks go by `[Callback]NAME.HOOK`, as Lightning names them; what loggers do,
    wherever they are called from, by `[Logger]NAME` once `listen_to_loggers` was called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._open: list[list[float]] = []

    def start(self, action_name: str) -> None:
        """Something begins."""
        self._open.append([time.perf_counter(), 0.0])

    def stop(self, action_name: str) -> None:
        """What began last is over."""
        began_s, inside_s = self._open.pop()
        took_s = time.perf_counter() - began_s
        self.seconds[action_name] += took_s - inside_s
        self.calls[action_name] += 1
        if self._open:
            self._open[-1][1] += took_s

    def restart(self) -> None:
        """Forget what has been added up."""
        self.seconds.clear()
        self.calls.clear()

    def listen_to_loggers(self, trainer: Trainer) -> None:
        """Time the loggers of a trainer too, of which Lightning tells nothing."""
        for logger in trainer.loggers:
            name = f"{LOGGER}{type(logger).__name__}"
            for method in ("log_metrics", "save"):
                setattr(logger, method, self._timed(name, getattr(logger, method)))

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.profile(name):
                return call(*arguments, **named)

        return timed

    def by_part(self) -> dict[str, float]:
        """Seconds of each callback and logger, all hooks together."""
        parts: Counter[str] = Counter()
        for name, seconds in self.seconds.items():
            if name.startswith((CALLBACK, LOGGER)):
                parts[name.partition("]")[2].split(".")[0].split("{")[0]] += seconds
        return dict(parts)
