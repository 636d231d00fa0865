"""What people type, as Hydra's override grammar takes it."""

import re
from collections.abc import Sequence
from pathlib import Path

_PATH_KEYS = (
    "input",
    "output",
    "checkpoint",
    "resume.checkpoint",
    "vocoder",
    "vocoder_weights",
    "pretrained",
    "refine.checkpoint",
    "speaker_curve",
    "dataset.path",
    "content.model",
    "content_model",
    "pitch.model",
    "checkpoint_dir",
    "options.vocoder_config",
    "task.recordings",
    "task.checkpoint",
)
_SHORT = {
    # The two pluses are for files that say `resume: auto`, which has no setting inside.
    re.compile(r"^\+{0,2}resume=(?!\{)"): "++resume.checkpoint=",
    re.compile(r"^batch_size="): "data.batch_size=",
}
_MIX = re.compile(r"[^,]+:[^,:]*(,[^,]+:[^,:]*)+")
"""A mix of speakers: alma:0.7,bruno:0.3."""


def in_full(arguments: Sequence[str]) -> list[str]:
    """`resume=X` as `resume.checkpoint=X` and `batch_size=N` as `data.batch_size=N`, for which they
    are short; other arguments as they are."""
    written = list(arguments)
    for short, full in _SHORT.items():
        written = [short.sub(full, argument) for argument in written]
    return written


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """Put quotes around paths and speakers that Hydra's override grammar would trip over.

    `input=My song (live).wav` is what people type; Hydra wants `input='My song (live).wav'`. A
    comma separates the values of a sweep only where one is asked for, or in paths where nothing
    else is special; what is a mix of speakers is one value in a sweep as well.
    """
    sweeps = not {"-m", "--multirun"}.isdisjoint(arguments)
    quoted = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and _wants_quotes(key, value, sweeps):
            argument = f"{key}={hydra_quoted(value)}"
        elif key == "adapters" and not sweeps:
            argument = f"{key}={quoted_adapters(value)}"
        quoted.append(argument)
    return quoted


def _wants_quotes(key: str, value: str, sweeps: bool) -> bool:
    plain = re.fullmatch(r"[\w./~+-]*", value, flags=re.ASCII)
    if plain or value[:1] in ("'", '"', "$", "["):
        return False
    if key == "speaker":
        return not sweeps or _MIX.fullmatch(value) is not None
    listed = re.fullmatch(r"[\w./~+,-]*", value, flags=re.ASCII)
    one_path = not ("," in value and (sweeps or listed)) or Path(value).exists()
    return key.lstrip("+") in _PATH_KEYS and one_path


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
