"""How long training stands still at its data loader."""

import time

from lightning.pytorch.profilers import PassThroughProfiler, Profiler

_EPOCH = "run_training_epoch"
_FETCH = "[_TrainingEpochLoop].train_dataloader_next"
"""Lightning's names of what surrounds an epoch, at whose begin the loader starts afresh, and of
what surrounds the wait for a batch."""


class LoaderClock(Profiler):
    """Adds up the time in which the training loop has no batch and does nothing but wait for one.

    Lightning tells its profiler when it asks the loader for a batch and when it has got it; nothing
    else would tell that time from what callbacks take between two steps, such as a checkpoint.

    Args:
        inner: is told everything as well.
    """

    def __init__(self, inner: Profiler | None = None) -> None:
        super().__init__()
        self.inner = inner or PassThroughProfiler()
        self._since_s: float | None = None
        self._waited_s = 0.0

    def start(self, action_name: str) -> None:
        """Begin to wait, where that is what `action_name` stands for."""
        if action_name in (_EPOCH, _FETCH) and self._since_s is None:
            self._since_s = time.perf_counter()
        self.inner.start(action_name)

    def stop(self, action_name: str) -> None:
        """The batch is there, or there is none left."""
        self.inner.stop(action_name)
        if action_name == _FETCH and self._since_s is not None:
            self._waited_s += time.perf_counter() - self._since_s
            self._since_s = None

    def summary(self) -> str:
        """As `inner` has it."""
        return self.inner.summary()

    def take(self) -> float:
        """Seconds waited since this was last called."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s
