"""Lightning's loggers of files, for which a full disk is no reason to stop a training."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

_logger = logging.getLogger(__name__)


_told: set[str] = set()
"""What could not be written at the last attempt."""


def surviving_full_disk(what: str) -> contextlib.AbstractContextManager[None]:
    """`surviving` what disks have against writing."""
    return surviving(what, OSError)


@contextlib.contextmanager
def surviving(what: str, failure: type[Exception]) -> Iterator[None]:
    """Say once what cannot be written, and go on: it is worth less than the training.

    Args:
        what: begins the sentence, such as "Metrics".
        failure: what may happen; anything else is raised.
    """
    try:
        yield
    except failure as error:
        if what not in _told:
            _told.add(what)
            _logger.warning("%s could not be written (%s). Training goes on.", what, error)
    else:
        _told.discard(what)


class RunCsvLogger(CSVLogger):
    """Writes lines that were refused when there is room again."""

    @rank_zero_only
    def save(self) -> None:
        """Write what has been logged."""
        with surviving_full_disk("metrics.csv"):
            super().save()


class RunTensorBoardLogger(TensorBoardLogger):
    """Begins another file when there is room again: the writer of the first is lost then."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write scalars under `step`."""
        with self.writing():
            super().log_metrics(metrics, step)

    @rank_zero_only
    def save(self) -> None:
        """Write what has been logged."""
        with self.writing():
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file."""
        with self.writing():
            super().finalize(status)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Around everything that is written."""
        with surviving_full_disk("TensorBoard's file"):
            try:
                yield
            except (OSError, ValueError) as error:
                # Lightning wraps whatever happens to a scalar.
                cause = error.__cause__ if isinstance(error, ValueError) else error
                if not isinstance(cause, OSError):
                    raise
                self._experiment = None
                raise cause from None
