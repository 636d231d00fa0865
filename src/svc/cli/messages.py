"""Faults of what was typed, in words that say what to type instead."""

import re
import sys
import traceback
from difflib import get_close_matches
from typing import Any

from svc.config.paths import conf_dir
from svc.errors import UserError

_NOTHING = object()
"""Where a file says nothing of a setting, which may be null."""


def user_message(error: BaseException, config_name: str) -> str | None:
    """The message of a fault that the user can mend, or None for any other."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _tidy_hydra_message(error, config_name)
    if isinstance(error, ValueError) and _raised_in(error).startswith("hydra."):
        return _explained_value_error(str(error))
    if isinstance(error, ValueError) and _raised_in(error).startswith("optuna."):
        return f"The search has no trial that ended well, or cannot go on: {error}"
    of_launcher = isinstance(error, RuntimeError | OSError)
    if of_launcher and _raised_in(error).startswith(("submitit.", "ray.")):
        return (
            f"hydra/launcher: its jobs cannot be started from here: {error}\n"
            f"hydra/launcher=joblib runs jobs on this machine, and needs nothing else."
        )
    return None


def _raised_in(error: BaseException) -> str:
    """Name of the module whose code raised the error."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", ""))


def _explained_value_error(text: str) -> str:
    """What Hydra says of a command line that it does not take, with what to type instead."""
    if text.startswith("Config group override must be"):
        return _explained_group_value(text)
    if "--cfg" in text and "--multirun" in text:
        return f"{text}. Leave out -m to see the settings of a single job."
    return text


def _explained_group_value(text: str) -> str:
    """Of a group that was given a number, say, or nothing."""
    for argument in sys.argv[1:]:
        group, _, value = argument.partition("=")
        if not value or not (conf_dir() / group).is_dir() or (conf_dir() / group / value).exists():
            continue
        if value in ("null", "None"):
            return f"{text}. A group that may be absent is left out with a tilde: ~{group}"
        if not re.match(r"[A-Za-z_]\w*$", value) or value.lower() in ("true", "false"):
            options = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
            return (
                f"{argument}: {group} is a group, which is given one of its options: "
                f"{', '.join(options)}. A setting in it is given as {group}.NAME=VALUE; "
                f"--cfg job -p {group} shows them."
            )
    return text


def _tidy_hydra_message(error: BaseException, config_name: str) -> str:
    """Hydra's and OmegaConf's words, with what to do where they do not say it."""
    text = "\n".join(line for line in str(error).splitlines() if line.strip())
    cause = str(error.__cause__ or "").splitlines()
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown and (not cause or "not in" in cause[0]):
        return (
            f"{unknown.group(1)} is not a setting{_nearest_setting(unknown.group(1), config_name)}"
            f" See every setting with --cfg job, and the groups with --help."
        )
    absent = re.match(r"Key '(\w+)' is not in struct", text)
    if absent and f"~{absent.group(1)}" in sys.argv:
        return f"~{absent.group(1)}: this command cannot do without {absent.group(1)}."
    plug_in = re.search(r"'hydra/(launcher|sweeper)/(joblib|ray|submitit|optuna)[a-z_]*'", text)
    if plug_in:
        extra = "sweep" if plug_in.group(2) == "optuna" else plug_in.group(2)
        text += f"\nIt comes with an extra: pip install 'svc[{extra}]'"
    text = re.sub(r"\n(Config search path:|\s+provider=)[^\n]*", "", text)
    text = re.sub(r"\n\s*(full_key|object_type|reference_type)[^\n]*", "", text)
    if cause and cause[0] and cause[0] not in text:
        text = f"{text}\n{cause[0]}"
    if "Multiple values for" in text and (plus := [a for a in sys.argv if a.startswith("+")]):
        return f"{text.partition('. ')[0]}. Leave out the plus of {plus[0]}"
    if "override_grammar" in text:
        text = re.sub(r"\nSee https[^\n]*", "", text)
        if "missing EQUAL" in text or re.search(r"^\S+ = ?", text.partition("Exception: ")[2]):
            return f"{text}\nSettings are given as name=value, without spaces around the sign."
        text += "\nPut quotes around values with special characters: \"key='a value, (so)'\""
    return text


def _nearest_setting(key: str, config_name: str) -> str:
    """A hint at the setting or group that was probably meant, or nothing."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    groups = [a for a in sys.argv[1:] if (conf_dir() / a.partition("=")[0]).is_dir()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            composed = compose(config_name, groups)
        except HydraException:  # a sweep, or an option from elsewhere
            composed = compose(config_name)
    plain = OmegaConf.to_container(composed, resolve=False)
    settings: list[str] = []
    _collect_keys(plain, "", settings)
    key = key.replace("/", ".")
    if key in settings:
        group = key.rpartition(".")[0]
        return (
            f" here, because a file gives {group} as a single value; write out there what is in it."
        )
    if choices := _options_that_have(key):
        return f" of the options chosen; it comes with {' or '.join(choices[:3])}."
    if "." not in key and (named_so := [s for s in settings if s.rpartition(".")[2] == key]):
        return f"; did you mean {' or '.join(sorted(named_so, key=len)[:3])}?"
    if close := get_close_matches(key, settings, n=1):
        return f"; did you mean {close[0]}?"
    group, _, name = key.rpartition(".")
    siblings = [s.rpartition(".")[2] for s in settings if s.rpartition(".")[0] == group]
    if not group or not siblings:
        return "."
    return (
        f"; {group} has {', '.join(siblings)}. What its class takes besides these is given with "
        f"a plus: +{group}.{name}=…"
    )


def _options_that_have(key: str) -> list[str]:
    """Options of its group that a setting comes with."""
    import yaml

    group, *names = key.split(".")
    found = []
    for path in sorted((conf_dir() / group).glob("*.yaml")) if names else []:
        text = path.read_text(encoding="utf-8")
        node = yaml.safe_load(text)
        if "@package _global_" in text:
            node = (node or {}).get(group)
        for name in names:
            node = node.get(name, _NOTHING) if isinstance(node, dict) else _NOTHING
        if node is not _NOTHING:
            found.append(f"{group}={path.stem}")
    return found


def _collect_keys(node: Any, path: str, found: list[str]) -> None:
    if isinstance(node, dict):
        for key, child in node.items():
            if str(key).startswith("_"):  # _target_ and its like are not for the command line
                continue
            inner = f"{path}.{key}" if path else str(key)
            found.append(inner)
            _collect_keys(child, inner, found)
