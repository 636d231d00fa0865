"""The leaderboard of a sweep as a table on Weights & Biases."""

from collections.abc import Mapping
from typing import Any

from svc.sweeps.leaderboard import Leaderboard, columns, rows
from svc.training.loggers import wandb_logger


def log_leaderboard(board: Leaderboard, settings: Mapping[str, Any]) -> None:
    """Log the leaderboard as a run of its own, named after the sweep, beside those of its jobs.

    Args:
        board: goes into the table `leaderboard`.
        settings: project, entity and offline, as the logger of the jobs has them.
    """
    name = board.folder.resolve().name
    logger = wandb_logger(
        settings["project"],
        str(board.folder),
        name=f"leaderboard of {name}",
        entity=settings.get("entity"),
        offline=settings.get("offline", "auto"),
    )
    heads, table = columns(board), rows(board)
    # A column of a table has one type.
    kinds = [{type(row[place]) for row in table} - {type(None)} for place in range(len(heads))]
    text = [kind - {int, float} != set() for kind in kinds]
    cells = [
        [str(v) if as_text and v is not None else v for v, as_text in zip(row, text, strict=True)]
        for row in table
    ]
    logger.log_table("leaderboard", columns=heads, data=cells)
    logger.finalize("success")
