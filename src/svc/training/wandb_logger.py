"""Lightning's logger for Weights & Biases as our runs need it."""

import contextlib
import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from svc.errors import UserError
from svc.training.file_loggers import surviving
from svc.training.runs import LAST_CHECKPOINT
from svc.training.validation_sample import ValidationSample
from svc.training.wandb_checkpoints import log_checkpoints
from svc.training.wandb_end import ANSWER_S, end_run

_logger = logging.getLogger(__name__)

SAMPLE_COLUMNS = ("step", "sample", "speaker", "target", "prediction", "mel")
"""Of the table `samples`: a row for each crop of each validation."""

_DATA_DIR = "WANDB_DATA_DIR"
"""Below it, wandb keeps the files of artifacts until they are uploaded."""


class RunWandbLogger(WandbLogger):
    """One run for each training, whole and in its own folder, with samples and checkpoints.

    Lightning's logger goes on writing into a run after the training, so that the next job of a
    sweep in the same process would write into it as well.

    Args:
        folder: of the run, absolute.
        checkpoints: whether its best and its last checkpoint are uploaded when it ends well;
            "auto" does so where the run is not offline.
        must_be_online: refuse to train where wandb cannot be reached, rather than keep the run
            offline.
        finish_timeout_s: how long the end of a run waits for wandb, checkpoints apart; while wandb
            answers, a run that has ended well waits on.
        options: of `WandbLogger`, and of `wandb.init`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        checkpoints: bool | Literal["auto"] = "auto",
        must_be_online: bool = False,
        finish_timeout_s: float = 15.0,
        **options: Any,
    ) -> None:
        # Whatever else this process has logged to wandb, this run is apart from it.
        super().__init__(save_dir=folder, reinit="create_new", **options)
        self._wandb_init.pop("anonymous", None)  # wandb warns of it
        self.folder = folder
        self._checkpoints = checkpoints
        self._must_be_online = must_be_online
        self._finish_timeout_s = finish_timeout_s
        self._table: Any = None
        self._known_targets: set[int] = set()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of wandb, begun when it is first asked for.

        Raises:
            UserError: wandb cannot be reached, and the run must be online.
        """
        if self._experiment is None:
            run = self._begun()
            if not (run.offline or run.disabled):
                # Tables ask the server something before they are queued. Where the server is not
                # there when they ask for the first time, wandb raises and they are lost.
                with surviving("wandb's first question", Exception):
                    run._public_api()._service_api._timeout = ANSWER_S
        return super().experiment

    def _begun(self) -> Any:
        """The run, newly begun; offline where wandb cannot be reached."""
        import wandb
        from wandb.errors import CommError

        try:
            return super().experiment
        except CommError as error:
            reason = str(error).splitlines()[0]
            if self._must_be_online:
                raise UserError(
                    f"logger.wandb.offline=false: wandb cannot be reached ({reason}). Give "
                    f"logger.wandb.offline=true, and upload the run later with `wandb sync`."
                ) from error
            _logger.warning(
                "logger=wandb: it cannot be reached (%s), so the run is kept offline; later "
                "`%s` uploads it.",
                reason,
                sync_command(self.folder),
            )
            wandb.teardown()  # its process takes the run for one that is under way
            self._wandb_init["mode"] = "offline"
            return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write values, of any kind that wandb knows, under `step`.

        Raises:
            UserError: as `experiment` does; nothing else, whatever becomes of wandb.
        """
        _ = self.experiment
        with surviving("What goes to wandb", Exception), self._artifacts_in_folder():
            super().log_metrics(metrics, step)

    @rank_zero_only
    def log_samples(self, samples: Sequence[ValidationSample], step: int) -> None:
        """Send what validation sounds and looks like, as media under `sample/…` and as rows of the
        table `samples`.

        Whatever the length of a run, a validation sends its own rows only: the table grows on
        wandb's side. Recordings, which stay the same, are media once.
        """
        import wandb

        if self._table is None:
            self._table = wandb.Table(columns=list(SAMPLE_COLUMNS), log_mode="INCREMENTAL")
        media: dict[str, Any] = {}
        for sample in samples:
            shown = {
                "target": wandb.Audio(str(sample.target_wav)),
                "prediction": wandb.Audio(str(sample.prediction_wav)),
                "mel": wandb.Image(str(sample.mel_png)),
            }
            self._table.add_data(step, str(sample.number), sample.speaker, *shown.values())
            if sample.number in self._known_targets:
                del shown["target"]
            self._known_targets.add(sample.number)
            media |= {f"sample/{sample.number}/{name}": [what] for name, what in shown.items()}
        if samples:
            self.log_metrics({"samples": self._table, **media}, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run; `status` is "success", or anything else for a failure."""
        super().finalize(status)
        run = self._experiment
        if run is None:
            return
        wanted = not run.offline if self._checkpoints == "auto" else self._checkpoints
        if wanted and status == "success":
            self._log_checkpoints(run)
        self._experiment = None
        end_run(run, 0 if status == "success" else 1, self._finish_timeout_s)

    def _log_checkpoints(self, run: Any) -> None:
        folder = self.folder / LAST_CHECKPOINT.parent
        try:
            with self._artifacts_in_folder():
                log_checkpoints(run, folder)
        except Exception as error:  # whatever it is, the training has ended well
            _logger.warning(
                "logger=wandb: the checkpoints could not be uploaded (%s). They are in %s.",
                error,
                folder,
            )

    @contextlib.contextmanager
    def _artifacts_in_folder(self) -> Iterator[None]:
        """Have wandb keep the files of artifacts in the run's folder, not in the user's home: there
        an offline run finds them when it is uploaded, and no other disk fills up."""
        if _DATA_DIR in os.environ:  # somebody's wish
            yield
            return
        os.environ[_DATA_DIR] = str(self.folder / "wandb")
        try:
            yield
        finally:
            os.environ.pop(_DATA_DIR, None)


def sync_command(folder: Path) -> str:
    """What to type to upload a run that is kept offline.

    Args:
        folder: of the run.
    """
    return f"wandb sync {shlex.quote(str(folder / 'wandb'))}/offline-run-*"
