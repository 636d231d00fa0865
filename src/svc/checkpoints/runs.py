"""Which of a run's checkpoints is meant when only the run is named."""

from pathlib import Path

from svc.errors import UserError

_CANDIDATES = (
    Path("checkpoints") / "best.ckpt",
    Path("checkpoints") / "last.ckpt",
    Path("best.ckpt"),
    Path("last.ckpt"),
)


def checkpoint_to_convert_with(path: Path) -> Path:
    """A checkpoint file itself, or the best (else the last) one of a run's folder.

    Raises:
        UserError: it is a folder without a checkpoint.
    """
    path = path.expanduser()
    if not path.is_dir():
        return path
    for candidate in _CANDIDATES:
        if (path / candidate).is_file():
            return path / candidate
    raise UserError(
        f"checkpoint={path} is a folder without a checkpoint ({_CANDIDATES[0]} was looked for "
        f"first). Give the folder of a run of svc-train, or a .ckpt file."
    )
