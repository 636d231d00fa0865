"""The folder that Hydra makes for a run before anything is known of it."""

import logging
import shutil
from pathlib import Path

from svc.cli.multirun import in_multirun, remove_empty
from svc.cli.processes import is_first

_logger = logging.getLogger(__name__)


def remove_unused_run_folder() -> None:
    """Take back the folder of a run that never began, and those around it that hold nothing
    else."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.get().output_subdir is None:
        return
    folder = Path(HydraConfig.get().runtime.output_dir)
    logs = {f"{HydraConfig.get().job.name}.log", HydraConfig.get().output_subdir}
    if not folder.is_dir() or not {path.name for path in folder.iterdir()} <= logs:
        return
    shutil.rmtree(folder)
    remove_empty(folder.parent)


def go_on_in(run_dir: Path) -> None:
    """Have the log go on in the folder of the run that is continued, and take back the new one.

    A job of a multirun keeps its own, which holds the record of the job.
    """
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir).absolute()
    if in_multirun() or folder == run_dir.absolute():
        return
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).parent == folder:
            _move(handler, run_dir.absolute())
    if is_first():
        remove_unused_run_folder()


def _move(handler: logging.FileHandler, run_dir: Path) -> None:
    """Write the next line into the log of another folder, after those of this one."""
    begun = Path(handler.baseFilename)
    try:
        if is_first() and begun.is_file():
            with open(run_dir / begun.name, "a", encoding="utf-8") as log:
                log.write(begun.read_text(encoding="utf-8"))
    except OSError as error:
        _logger.warning("The log does not go on in %s: %s", run_dir, error)
        return
    handler.close()  # it opens its file again for the next line
    handler.baseFilename = str(run_dir / begun.name)
