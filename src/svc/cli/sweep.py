"""Jobs of a multirun of svc-train: recorded where they run, summed up where they were launched."""

import logging
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from svc.cli.app import EXIT_ENDED, EXIT_INTERRUPTED, EXIT_USER_MUST_CHANGE
from svc.cli.ending_sweeps import end_jobs_first, ending_with_launcher
from svc.cli.multirun import (
    JobFailed,
    in_multirun,
    in_process_of_joblib,
    launched_elsewhere,
    take_gpus,
)
from svc.config.checks import DeviceUnavailable
from svc.config.resolvers import SWEPT_FEATURES
from svc.errors import EndedOnRequest, UserError

if TYPE_CHECKING:
    from svc.sweeps.leaderboard import Entry, Leaderboard

_logger = logging.getLogger(__name__)

FIRST_TRIAL = "SVC_SEARCH_FIRST_TRIAL"
"""Tells jobs the number of the first trial that the command runs, in the study of its search."""

TRIAL = "SVC_SEARCH_TRIAL"
"""Tells the callback `pruning` which trial a run is; conf/hparams_search/optuna.yaml reads it."""

_BY_NUMBER = "${hydra.job.num}"
"""The folder of a job by default."""

_BY_TIME = "${now:%Y-%m-%d_%H-%M-%S}_${hydra.job.num}"
"""The same where the sweep's folder has jobs of an earlier command, to leave these alone."""

_FEATURES = re.compile(r"(content|pitch|energy|audio|preparation)\.(?!workers|batch_s)")
"""Settings of which each value wants a prepared dataset of its own. The groups `content` and
`pitch` are part of its name anyway."""

_SHORT = 40
"""Characters of a reason that is told as often as it comes."""

_launched: "SweepStart | None" = None
"""The multirun that this process launches."""


class SweepStart(Callback):
    """Notes where a multirun goes, for the leaderboard at its end; in conf/hydra/train.yaml."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Hydra calls this in the launching process."""
        global _launched
        from omegaconf import OmegaConf, flag_override

        from svc.sweeps.job_record import JOB_FILE

        self.folder = Path(config.hydra.sweep.dir)
        self.wandb = (config.get("logger") or {}).get("wandb")
        self.earlier = {
            file.parent: file.stat().st_mtime_ns for file in self.folder.rglob(JOB_FILE)
        }
        _launched = self
        if str(config.hydra.launcher._target_).endswith(".JoblibLauncher"):
            end_jobs_first(self.folder, self._is_under_way)
        sweep: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
        with flag_override(config, ["readonly", "struct"], [False, False]):
            if self.earlier and sweep["subdir"] == _BY_NUMBER:
                config.hydra.overrides.hydra.append(f"hydra.sweep.subdir='{_BY_TIME}'")
            if features := _swept_features(config.hydra):
                told = f"+hydra.job.env_set.{SWEPT_FEATURES}='{' '.join(features)}'"
                config.hydra.overrides.hydra.append(told)

    def _is_under_way(self) -> bool:
        return any(entry.job.state == "running" for entry in self.entries_of(self.board()))

    def board(self) -> "Leaderboard":
        """All jobs in the folder, as they stand."""
        from svc.sweeps.leaderboard import read_leaderboard

        return read_leaderboard(self.folder)

    def entries_of(self, board: "Leaderboard") -> list["Entry"]:
        """Those whose records were written by this multirun."""
        return [entry for entry in board.entries if _is_new(entry.folder, self.earlier)]


def _swept_features(hydra: Any) -> list[str]:
    """Single settings that a multirun goes over and that change what is prepared."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    typed = OverridesParser.create().parse_overrides(list(hydra.overrides.task))
    keys = [o.key_or_group for o in typed if o.is_sweep_override()]
    return [key for key in [*keys, *(hydra.sweeper.get("params") or {})] if _FEATURES.match(key)]


def job_of_sweep(task: Callable[[Any], float | None]) -> Callable[[Any], float | None]:
    """The task, recording what becomes of it where it is a job of a multirun.

    A job for which this machine has no device is skipped: it has no score, and does no harm.
    """

    def job(config: Any) -> float | None:
        if not in_multirun():
            return task(config)
        if not in_process_of_joblib():
            return recorded(config)
        with ending_with_launcher(_sweep_folder(), _tell_of_end) as may_begin:
            if not may_begin:
                raise JobFailed(EXIT_ENDED, "")
            return recorded(config)

    def recorded(config: Any) -> float | None:
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
    """Write into the job's folder how it stands, and bring the leaderboard up to date: a sweep may
    be killed, and meanwhile one may look."""
    from hydra.core.hydra_config import HydraConfig

    from svc.sweeps.job_record import JobRecord, write_job
    from svc.sweeps.leaderboard import read_leaderboard, write_leaderboard

    settings = HydraConfig.get()
    overrides = [str(override) for override in settings.overrides.task]
    record = JobRecord(settings.job.num, overrides, state, reason, code)
    write_job(Path(settings.runtime.output_dir), record)
    with suppress(OSError):  # other jobs may be writing it; at the end it is written once more
        write_leaderboard(read_leaderboard(_sweep_folder(), ended=False))


def _sweep_folder() -> Path:
    """Of the multirun that this is a job of, wherever the job runs."""
    from hydra.core.hydra_config import HydraConfig

    settings = HydraConfig.get()
    return Path(settings.runtime.cwd) / settings.sweep.dir


def _tell_of_end() -> None:
    _record("failed", "asked to end before there was anything to save", EXIT_ENDED)


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
    from svc.sweeps.leaderboard import counted, write_leaderboard

    board = sweep.board()
    mine = sweep.entries_of(board)
    if not mine:
        return code
    try:
        said = f"Leaderboard: {write_leaderboard(board)}"
    except OSError as error:
        said = f"The leaderboard could not be written: {error}"
    print(f"{counted(mine)}. {said}", file=sys.stderr)
    first_with: dict[str, int] = {}
    for entry in sorted(mine, key=lambda entry: entry.job.number):
        settings, number, reason = entry.settings, entry.job.number, entry.job.reason
        said = " ".join(f"{key}={settings[key]}" for key in board.swept if key in settings)
        same = first_with.setdefault(reason, number) if len(reason) > _SHORT else number
        why = f": as job {same}" if same != number else f": {reason}" if reason else ""
        print(f"  {number} {entry.state} {said}{why}", file=sys.stderr)
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
