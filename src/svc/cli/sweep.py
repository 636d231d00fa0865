"""Jobs of a multirun of svc-train: recorded where they run, summed up where they were launched."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from svc.cli.app import EXIT_ENDED, EXIT_INTERRUPTED, EXIT_USER_MUST_CHANGE
from svc.cli.multirun import JobFailed, in_multirun, launched_elsewhere, take_gpus
from svc.config.checks import DeviceUnavailable
from svc.errors import EndedOnRequest, UserError

_logger = logging.getLogger(__name__)

FIRST_TRIAL = "SVC_SEARCH_FIRST_TRIAL"
"""Tells jobs the number of the first trial that the command runs, in the study of its search."""

TRIAL = "SVC_SEARCH_TRIAL"
"""Tells the callback `pruning` which trial a run is; conf/hparams_search/optuna.yaml reads it."""

_launched: "SweepStart | None" = None
"""The multirun that this process launches."""


class SweepStart(Callback):
    """Notes where a multirun goes, for the leaderboard at its end; in conf/hydra/train.yaml."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Hydra calls this in the launching process."""
        global _launched
        from svc.sweeps.job_record import JOB_FILE

        self.folder = Path(config.hydra.sweep.dir)
        self.wandb = (config.get("logger") or {}).get("wandb")
        self.earlier = {
            file.parent: file.stat().st_mtime_ns for file in self.folder.rglob(JOB_FILE)
        }
        _launched = self


def job_of_sweep(task: Callable[[Any], float | None]) -> Callable[[Any], float | None]:
    """The task, recording what becomes of it where it is a job of a multirun.

    A job for which this machine has no device is skipped: it has no score, and does no harm.
    """

    def job(config: Any) -> float | None:
        if not in_multirun():
            return task(config)
        from hydra.core.hydra_config import HydraConfig

        take_gpus()
        number = HydraConfig.get().job.num
        if FIRST_TRIAL in os.environ:
            os.environ[TRIAL] = str(int(os.environ[FIRST_TRIAL]) + number)
        _record("running")
        try:
            score = task(config)
            if score is None and TRIAL in os.environ:
                raise UserError(
                    "This run has no finite validation loss for the search to judge it by: it has "
                    "diverged, or it never validated, for want of steps or held-out recordings."
                )
        except DeviceUnavailable as missing:
            reason = " ".join(missing.faults)
            _record("skipped", reason, EXIT_USER_MUST_CHANGE)
            _logger.warning("Job %d is skipped: %s", number, reason)
            return None
        except EndedOnRequest as ended:
            _record("failed", str(ended), EXIT_ENDED)
            if launched_elsewhere():
                raise
            print(f"svc-train: {ended}", file=sys.stderr)
            sys.exit(EXIT_ENDED)  # and with it the jobs that would come next in this process
        except BaseException as error:
            _record("failed", *_explained(error))
            raise
        finally:
            os.environ.pop(TRIAL, None)
        _record("done")
        return score

    return job


def _record(state: Any, reason: str = "", code: int = 0) -> None:
    """Write into the job's folder how it stands."""
    from hydra.core.hydra_config import HydraConfig

    from svc.sweeps.job_record import JobRecord, write_job

    settings = HydraConfig.get()
    overrides = [str(override) for override in settings.overrides.task]
    record = JobRecord(settings.job.num, overrides, state, reason, code)
    write_job(Path(settings.runtime.output_dir), record)


def _explained(error: BaseException) -> tuple[str, int]:
    """Why a job failed, and the exit code for that."""
    if isinstance(error, JobFailed):
        return error.message or "a process of the run failed; its log says why", error.code
    if isinstance(error, UserError):
        return str(error), EXIT_USER_MUST_CHANGE
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", EXIT_INTERRUPTED
    return f"{type(error).__name__}: {error}".strip(": "), 1


def summed_up(code: int) -> int:
    """Write the leaderboard of the multirun that has ended here, and tell how its jobs ended.

    Args:
        code: exit code of the command so far.

    Returns:
        The exit code: 2 where no job could run on this machine, that of the first failure where
        the launcher took none for a reason to fail.
    """
    global _launched
    sweep, _launched = _launched, None
    if sweep is None or not sweep.folder.is_dir():
        return code
    from svc.sweeps.leaderboard import counted, read_leaderboard, write_leaderboard

    board = read_leaderboard(sweep.folder)
    mine = [e for e in board.entries if _is_new(e.folder, sweep.earlier)]
    if not mine:
        return code
    try:
        said = f"Leaderboard: {write_leaderboard(board)}"
    except OSError as error:
        said = f"The leaderboard could not be written: {error}"
    print(f"{counted(mine)}. {said}", file=sys.stderr)
    for entry in sorted(mine, key=lambda entry: entry.job.number):
        settings = entry.settings
        said = " ".join(f"{key}={settings[key]}" for key in board.swept if key in settings)
        why = f": {entry.job.reason}" if entry.job.reason else ""
        print(f"  {entry.job.number} {entry.state} {said}{why}", file=sys.stderr)
    if sweep.wandb is not None:
        from svc.sweeps.wandb_table import log_leaderboard

        try:
            log_leaderboard(board, sweep.wandb)
        except Exception as error:  # of the network, say; the jobs are done all the same
            print(f"The leaderboard is not on wandb: {error}", file=sys.stderr)
    return _exit_code(code, [entry.job for entry in mine])


def _is_new(folder: Path, earlier: dict[Path, int]) -> bool:
    """Whether a job's record was written by this multirun."""
    from svc.sweeps.job_record import JOB_FILE

    return (folder / JOB_FILE).stat().st_mtime_ns != earlier.get(folder)


def _exit_code(code: int, jobs: list[Any]) -> int:
    if all(job.state == "skipped" for job in jobs):  # another trainer must be chosen
        return EXIT_USER_MUST_CHANGE
    failures = [job.code or 1 for job in jobs if job.state in ("failed", "running")]
    return code or (failures[0] if failures else 0)
