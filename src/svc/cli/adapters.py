"""How `adapters=[a.safetensors:1.0,b.safetensors:0.5]` is read."""

import math
from collections.abc import Sequence
from pathlib import Path

from svc.errors import UserError


def adapters_of(setting: str | Sequence[object] | None) -> list[tuple[Path, float]]:
    """Files and scales, in order.

    Args:
        setting: FILE or FILE:SCALE, or a list of them. Without a scale, an adapter counts in full.
            A colon that is part of a path (`C:\\voices\\a.safetensors`) is taken for one where no
            number follows it, or where there is such a file.

    Raises:
        UserError: a scale is not a finite number, or an entry is not a file at all.
    """
    entries = [setting] if isinstance(setting, str) else list(setting or ())
    return [_adapter_of(entry) for entry in entries]


def _adapter_of(entry: object) -> tuple[Path, float]:
    if not isinstance(entry, str) or not entry.strip():
        raise UserError(
            f"adapters: {entry!r} is not a file. Give adapters=[FILE:SCALE,FILE:SCALE]; a path "
            f"with special characters wants quotes: \"adapters=['a, b.safetensors:1.0']\"."
        )
    path, colon, last = entry.rpartition(":")
    if not colon or Path(entry).expanduser().exists():
        return Path(entry).expanduser(), 1.0
    try:
        scale = float(last)
    except ValueError:
        if path.endswith(".safetensors"):
            raise UserError(
                f"adapters: {last!r} after {path} is not a scale. Give a number: 1 adds all that "
                f"was learned, 0 nothing."
            ) from None
        return Path(entry).expanduser(), 1.0
    if not math.isfinite(scale):
        raise UserError(f"adapters: the scale {last} of {path} must be a finite number.")
    return Path(path).expanduser(), scale
