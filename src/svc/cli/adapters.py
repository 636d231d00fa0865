"""How `adapters=[a.safetensors:1.0,b.safetensors:0.5]` is typed and read."""

import math
import re
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


def quoted_adapters(value: str) -> str:
    """The same list as Hydra's override grammar takes it, whose lists hold no `~`, `=`, brackets or
    letters beyond ASCII unless in quotes. Brackets may be left out; what is in quotes already, is
    nothing, or comes from another setting stays as it is."""
    as_it_is = re.search(r"""(^|[\[,])\s*['"$]""", value)
    if as_it_is or value in ("", "null", "[]"):
        return value
    listed = value.startswith("[") and value.endswith("]")
    entries = (value[1:-1] if listed else value).split(",")
    return f"[{','.join(hydra_quoted(entry.strip()) for entry in entries)}]"


def hydra_quoted(value: str) -> str:
    """In quotes; in these, a backslash means itself unless a quote follows."""
    doubled = re.sub(r"(\\+)(?='|$)", r"\1\1", value)
    escaped = doubled.replace("'", "\\'")
    return f"'{escaped}'"


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
