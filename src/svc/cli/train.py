"""`svc-train`: prepare the dataset where it is not prepared, then train."""

import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from svc.cli.app import run_command
from svc.cli.quoting import in_full
from svc.cli.sweep import job_of_sweep, summed_up

if TYPE_CHECKING:
    from svc.cli.resuming import Continuation
    from svc.cli.training_run import TrainingParts
    from svc.data.store import FeatureStore
    from svc.training.preflight import PreflightOptions

_logger = logging.getLogger(__name__)

RUN_TIME_ARGUMENTS = {
    "arch": ("audio", "optimizer", "scheduler", "facts"),
    "arch.generator.conditioner": ("content_channels", "speakers"),
    "arch.generator.scaling": ("minimum", "maximum"),
    "mel_scaling": ("minimum", "maximum"),
    "data": ("store", "spec"),
    "trainer": ("run_dir", "callbacks", "loggers"),
}
"""What is known only when the dataset is prepared and the run folder is there."""


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.argv = [sys.argv[0], *in_full(sys.argv[1:])]
    try:
        run_command("svc-train", "train", job_of_sweep(train))
    except SystemExit as ended:
        sys.exit(summed_up(int(ended.code or 0)))


def train(config: Any) -> float | None:
    """Train as the composed configuration says.

    Returns:
        The last validation loss, which searches minimise; None where there is no finite one.
    """
    from hydra.core.hydra_config import HydraConfig

    from svc.cli.announcements import tell_shared_cores
    from svc.cli.optimisation import require_usable_optimisation
    from svc.cli.parts import extraction_settings, plain_config
    from svc.cli.pretrained_run import read_pretrained, with_pretrained_shape
    from svc.cli.processes import (
        end_with_parent,
        processes_to_start,
        quieten_all_but_first,
        run_processes,
    )
    from svc.cli.resuming import run_to_continue
    from svc.cli.run_folder import go_on_in
    from svc.cli.trainers import device_problem, with_chosen_trainer
    from svc.cli.training_run import (
        prepared_store,
        trained_vocoder,
        training_parts,
        with_absolute_folders,
        with_mel_bounds,
        with_vocoder_shape,
    )
    from svc.config.instantiate import build
    from svc.memory import keep_freed_memory, restart_peak_memory
    from svc.training.preflight import PreflightOptions
    from svc.training.run_summary import read_summary

    # A log on a disk that is full is not worth a traceback for each of its lines.
    logging.raiseExceptions = os.environ.get("SVC_DEBUG") == "1"
    keep_freed_memory()
    restart_peak_memory()
    quieten_all_but_first()
    end_with_parent()
    config = with_chosen_trainer(config)
    plain = with_absolute_folders(plain_config(config, RUN_TIME_ARGUMENTS, device_problem))
    continued = run_to_continue(plain)
    checkpoint = continued.checkpoint if continued else None
    if continued is not None:
        _logger.info("Continuing from %s.", checkpoint)
        go_on_in(continued.run_dir)
        config.paths.run_dir = str(continued.run_dir)
        plain = with_absolute_folders(plain_config(config, RUN_TIME_ARGUMENTS, device_problem))
    spec, run_dir = build(plain["audio"]), Path(plain["paths"]["run_dir"])
    # Before any work: they may be refused.
    options = PreflightOptions(**plain["preflight"])
    require_usable_optimisation(plain)
    pretrained, vocoder = read_pretrained(plain, checkpoint), trained_vocoder(plain, spec)
    completed = with_pretrained_shape(plain, pretrained, spec, lambda: extraction_settings(plain))
    completed = with_vocoder_shape(completed, vocoder)
    store = prepared_store(plain, spec, continued)
    if (count := processes_to_start(plain["trainer"])) > 1:
        if plain["trainer"]["accelerator"] == "cpu":
            tell_shared_cores(count)
        run_processes(count, HydraConfig.get().overrides.task, run_dir, checkpoint)
        summary = read_summary(run_dir)
        return summary.score if summary else None
    completed = with_mel_bounds(completed, spec, store)
    parts = training_parts(completed, spec, store, run_dir, pretrained, vocoder, continued)
    return _run(parts, plain, completed, store, options, continued)


def _run(
    parts: "TrainingParts",
    plain: Mapping[str, Any],
    completed: Mapping[str, Any],
    store: "FeatureStore",
    options: "PreflightOptions",
    continued: "Continuation | None",
) -> float | None:
    """Look whether it fits, train, and leave the records of the run in its folder.

    Args:
        parts: of the run.
        plain: its configuration as it was asked for.
        completed: the same with the shapes of what is loaded.
        store: of the dataset.
        options: of the preflight.
        continued: the run that goes on.
    """
    from svc.cli.announcements import tell_beginning, tell_end
    from svc.cli.processes import is_first
    from svc.cli.training_run import tell_loggers
    from svc.data.fingerprint import DatasetRecord
    from svc.training.out_of_memory import out_of_memory_explained
    from svc.training.preflight import preflight
    from svc.training.run_summary import keep_summary, summarise
    from svc.training.runs import fit, write_run_file

    run_dir = Path(plain["paths"]["run_dir"])
    checkpoint = continued.checkpoint if continued else None
    preflight(parts.trainer, parts.module, parts.data, options, checkpoint)
    tell_loggers(parts, completed, store)
    if is_first():
        write_run_file(run_dir, plain, DatasetRecord.of(store))
    tell_beginning(parts, plain, continued)
    started_s = time.perf_counter()
    with out_of_memory_explained(parts.data):
        fit(parts.trainer, parts.module, parts.data, resume_from=checkpoint)
    summary = summarise(parts.trainer, time.perf_counter() - started_s)
    tell_end(parts, plain, summary)
    return (keep_summary(run_dir, summary) if is_first() else summary).score


if __name__ == "__main__":
    main()
