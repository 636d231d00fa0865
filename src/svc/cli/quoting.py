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
    "run_name",
    "dataset.name",
    "paths.data_dir",
    "paths.output_dir",
    "paths.store_dir",
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

_FLAGS = {"-m", "--multirun", "-r", "--run", "--resolve", "-h", "--help", "--hydra-help"}
_WITH_VALUE = {"-c", "--cfg", "-p", "--package", "-cd", "--config-dir", "-cn", "--config-name"}
"""Hydra's options; the others are rare."""

_SWEEP = re.compile(r"(-m|--multirun|hparams_search=(?!null$).+|hydra\.mode=MULTIRUN)")
"""Arguments that make a multirun of a command."""

_FUNCTION = re.compile(r"(choice|shuffle|sort|glob|tag)\(.*\)")
"""Of Hydra's grammar, which has its own commas."""


def in_full(arguments: Sequence[str]) -> list[str]:
    """`resume=X` as `resume.checkpoint=X` and `batch_size=N` as `data.batch_size=N`, for which they
    are short; other arguments as they are."""
    written = list(arguments)
    for short, full in _SHORT.items():
        written = [short.sub(full, argument) for argument in written]
    return written


def options_first(arguments: Sequence[str]) -> list[str]:
    """The same arguments with Hydra's options before everything else, because its parser takes
    settings in one piece only: it refuses `arch=diffsvc -m optim.lr=1e-4,2e-4`."""
    options: list[str] = []
    settings: list[str] = []
    left = iter(arguments)
    for argument in left:
        (options if argument in _FLAGS | _WITH_VALUE else settings).append(argument)
        if argument in _WITH_VALUE and (value := next(left, None)) is not None:
            options.append(value)
    return [*options, *settings]


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """Put quotes around paths and speakers that Hydra's override grammar would trip over.

    `input=My song (live).wav` is what people type; Hydra wants `input='My song (live).wav'`. A
    comma separates the values of a sweep only where one is asked for, or in paths where nothing
    else is special; what is a mix of speakers is one value in a sweep as well.
    """
    sweeps = any(_SWEEP.fullmatch(argument) for argument in arguments)
    quoted = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if sweeps and _lists_paths(key, value):
            paths = [_quoted_where_special(path.strip()) for path in value.split(",")]
            argument = f"{key}={','.join(paths)}"
        elif equals and _wants_quotes(key, value, sweeps):
            argument = f"{key}={hydra_quoted(value)}"
        elif key == "adapters" and not sweeps:
            argument = f"{key}={quoted_adapters(value)}"
        quoted.append(argument)
    return quoted


def _lists_paths(key: str, value: str) -> bool:
    """Whether a setting of a sweep names several paths."""
    written_for_hydra = re.search(r"""(^|,)\s*['"$\[{]""", value) or _FUNCTION.fullmatch(value)
    several = "," in value and not written_for_hydra and not Path(value).exists()
    return key.lstrip("+") in _PATH_KEYS and several


def _quoted_where_special(path: str) -> str:
    return path if _is_plain(path) else hydra_quoted(path)


def _is_plain(value: str) -> bool:
    return re.fullmatch(r"[\w./~+-]*", value, flags=re.ASCII) is not None


def _wants_quotes(key: str, value: str, sweeps: bool) -> bool:
    if _is_plain(value) or value[:1] in ("'", '"', "$", "["):
        return False
    if sweeps and _FUNCTION.fullmatch(value):
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
