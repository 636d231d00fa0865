"""What `svc-train` tells of a run: before it, what goes where; after it, what to do next."""

import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svc.cli.multirun import in_multirun
from svc.cli.processes import is_first
from svc.data.process_pool import available_cores

if TYPE_CHECKING:
    from svc.cli.resuming import Continuation
    from svc.cli.training_run import TrainingParts
    from svc.training.run_summary import RunSummary

_logger = logging.getLogger(__name__)

_PRECISIONS = {"32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16"}


def tell_beginning(
    parts: "TrainingParts", config: Mapping[str, Any], continued: "Continuation | None"
) -> None:
    """Say what is trained on what, for how long, and where to look for it.

    Args:
        parts: of the run, its batch size decided.
        config: plain.
        continued: the run that goes on.
    """
    if not is_first():
        return
    from hydra.core.hydra_config import HydraConfig

    choices = HydraConfig.get().runtime.choices
    settings, audio = config["trainer"], config["audio"]
    network = getattr(parts.module, "generator", parts.module)
    learning = sum(p.numel() for p in network.parameters() if p.requires_grad)
    crop_s = config["data"]["crop_frames"] * audio["hop_samples"] / audio["sample_rate_hz"]
    several = parts.trainer.world_size
    device = parts.trainer.strategy.root_device.type
    _logger.info(
        "Training arch=%s (%s parameters learn) on %s in %s: %s of %d crops of %.2f s%s.",
        choices["arch"],
        in_words(learning),
        device if several == 1 else f"{several} × {device}",
        _PRECISIONS[settings["precision"]],
        _updates(settings["max_steps"], 0 if continued is None else continued.step),
        parts.data.batch_size * settings["accumulate_grad_batches"] * several,
        crop_s,
        "" if parts.data.valid_crops else ", without validation: no recording could be held out",
    )
    _logger.info("The run's folder: %s", from_here(Path(config["paths"]["run_dir"])))
    if continued is not None and 0 < settings["max_steps"] <= continued.step:
        _logger.info(
            "There is nothing left to do: it has made %d updates. A larger trainer.max_steps "
            "goes on.",
            continued.step,
        )


def tell_shared_cores(processes: int) -> None:
    """Say that more training processes than cores only get into each other's way.

    Args:
        processes: on the CPU.
    """
    cores = available_cores()
    if processes > cores:
        _logger.warning(
            "trainer.devices=%d: so many processes share %s of this machine's CPU, and are slower "
            "than fewer of them.",
            processes,
            "the one core" if cores == 1 else f"the {cores} cores",
        )


def tell_end(parts: "TrainingParts", config: Mapping[str, Any], summary: "RunSummary") -> None:
    """Say how it went, and what to type next.

    Args:
        parts: of the run.
        config: plain.
        summary: of it.
    """
    run_dir = Path(config["paths"]["run_dir"])
    loss = "" if summary.score is None else f", valid_loss {summary.score:.3f}"
    _logger.info("Done after %d steps%s: %s", parts.trainer.global_step, loss, from_here(run_dir))
    if in_multirun() or not is_first() or not (run_dir / "checkpoints").is_dir():
        return
    run = shlex.quote(str(from_here(run_dir)))
    if "conditioner" in config["arch"]["generator"]:
        voice = shlex.quote(parts.data.speakers[0])
        next_line = f"Convert with it: svc-infer checkpoint={run} input=song.wav speaker={voice}"
    else:
        next_line = f"Train with it: svc-train arch=diffsvc vocoder_weights={run} …"
    _logger.info("%s", next_line)


def from_here(path: Path) -> Path:
    """A path as one would type it in the folder that the command was called in."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _updates(max_steps: int, begins_at: int) -> str:
    if max_steps < 0:
        return "updates without an end"
    if begins_at:
        return f"updates {begins_at} to {max_steps}"
    return f"{max_steps} updates" if max_steps != 1 else "1 update"


def in_words(count: int) -> str:
    """15.7 M, or 4 210."""
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count:,}".replace(",", " ")
