"""Which of a run's checkpoints is meant when only the run is named."""

from pathlib import Path

from svc.errors import UserError

_CANDIDATES = (
    Path("checkpoints") / "best.ckpt",
    Path("checkpoints") / "last.ckpt",
    Path("best.ckpt"),
    Path("last.ckpt"),
)
_EXPORTED = "*.safetensors"


def checkpoint_to_convert_with(path: Path) -> Path:
    """A file itself, or the best (else the last) checkpoint of a run's folder, or the only exported
    model of a folder that holds no checkpoint.

    Raises:
        UserError: it is a folder without a checkpoint, or one with several exported models.
    """
    path = path.expanduser()
    if not path.is_dir():
        return path
    for candidate in _CANDIDATES:
        if (path / candidate).is_file():
            return path / candidate
    exported = [found for found in sorted(path.glob(_EXPORTED)) if _is_visible_file(found)]
    if len(exported) == 1:
        return exported[0]
    if exported:
        names = ", ".join(found.name for found in exported[:10])
        raise UserError(
            f"checkpoint={path} is a folder with {len(exported)} models ({names}). Name one of "
            f"them: checkpoint={exported[0]}"
        )
    raise UserError(
        f"checkpoint={path} is a folder without a checkpoint ({_CANDIDATES[0]} was looked for "
        f"first, {_EXPORTED} last). Give the folder of a run of svc-train, or a .ckpt or "
        f".safetensors file."
    )


def _is_visible_file(path: Path) -> bool:
    """Names that begin with a dot are those of files that are being written."""
    return path.is_file() and not path.name.startswith(".")
