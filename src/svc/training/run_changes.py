"""What is different in a run that goes on: its settings, and whether the difference matters."""

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from fnmatch import fnmatchcase
from typing import Any

from svc.config.instantiate import locate
from svc.config.schema import TrainConfig
from svc.errors import UserError

HARMLESS_KEYS = (
    "resume",
    "offline",
    "*.offline",
    "*.device",
    "*.threads",
    "*.cache_folder",
    "content.batch_size",
    "pitch.batch_size",
    "paths",
    "logger",
    "callbacks",
    "run_name",
    "licence",
    "preflight",
    "data.workers",
    "data.cache",
    "preparation.workers",
    "preparation.batch_s",
    "optim.fused",
    "optim.foreach",
    "trainer.accelerator",
    "trainer.benchmark",
    "trainer.compile",
    "trainer.detect_anomaly",
    "trainer.deterministic",
    "trainer.max_steps",
    "trainer.validate_every_steps",
    "trainer.validate_each_epoch",
    "trainer.log_every_steps",
    "trainer.limit_val_batches",
)
"""Settings (or groups) in which a run and its continuation may differ: they do not change what is
learnt at a given step, but for rounding. A star stands for anything."""

_BEGIN = "it says what a run begins with, and this one has begun"
_SCALE = "the weights were learnt in this scale, which is saved with them"
FIXED_KEYS = {
    "pretrained": _BEGIN,
    "vocoder_weights": _BEGIN,
    "finetune": "it says what a run begins with, and which of its weights learn",
    "lora": "it says which weights there are",
    "mel_scaling": _SCALE,
    "arch.generator.scaling": _SCALE,
    "optim._target_": "what an optimiser remembers is of no use to another",
}
"""Settings (or groups) that cannot change within a run, and why: the checkpoint would win in
silence, or could not be loaded."""

_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """A setting that is different."""

    key: str
    """Dotted."""
    was: str
    """As shown to people."""
    now: str

    def __str__(self) -> str:
        return f"{self.key}: {self.was} → {self.now}"

    @property
    def fixed(self) -> str | None:
        """Why it cannot change within a run; None where it can."""
        return next((why for key, why in FIXED_KEYS.items() if _lies_in(self.key, key)), None)


def changes_between(
    recorded: Mapping[str, Any],
    present: Mapping[str, Any],
    ignore_keys: Sequence[str] = HARMLESS_KEYS,
) -> list[Change]:
    """Every setting in which two plain configurations differ, sorted by key.

    A setting that only one of them has is no change where the other has the default that its class
    would take: runs of older versions know fewer settings.

    Args:
        recorded: of the run, resolved.
        present: of its continuation, resolved.
        ignore_keys: dotted settings, or groups, that may differ.
    """
    before, now = dict(_leaves(recorded)), dict(_leaves(present))
    changes = []
    for key in sorted(before.keys() | now.keys()):
        if any(_lies_in(key, ignored) for ignored in ignore_keys):
            continue
        was = before[key] if key in before else _default(key, recorded)
        value = now[key] if key in now else _default(key, present)
        if was is not value and was != value:
            changes.append(Change(key, *_shown(was, value)))
    return changes


def _lies_in(key: str, group: str) -> bool:
    return fnmatchcase(key, group) or key.startswith(f"{group}.")


def _default(key: str, config: Mapping[str, Any]) -> Any:
    """What a setting is that `config` does not mention, by the class that it names for the group;
    `_ABSENT` where nothing tells."""
    of_root = _root_defaults()
    if key in of_root:
        return of_root[key]
    *groups, name = key.split(".")
    node: Any = config
    for group in groups:
        node = node.get(group) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or "_target_" not in node:
        return _ABSENT
    try:
        parameter = inspect.signature(locate(str(node["_target_"]))).parameters.get(name)
    except (UserError, ValueError):  # it is gone, or does not tell
        return _ABSENT
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return _ABSENT
    return list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default


@functools.cache
def _root_defaults() -> dict[str, Any]:
    """Of settings that belong to no class."""
    values: dict[str, Any] = {}
    for field in fields(TrainConfig):
        value: Any = field.default_factory() if callable(field.default_factory) else field.default
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        values[field.name] = value
    return {key: value for key, value in _leaves(values) if value not in ("???", MISSING)}


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that is not a mapping; an empty mapping is a value."""
    if isinstance(node, Mapping) and (node or not path):
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, list(node) if isinstance(node, tuple) else node


def _shown(was: Any, now: Any) -> tuple[str, str]:
    """Both values for people; in quotes only where they would look the same."""
    plain = [_text(was, str), _text(now, str)]
    return (plain[0], plain[1]) if plain[0] != plain[1] else (_text(was, repr), _text(now, repr))


def _text(value: Any, write: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(write(value))
    # Of a path, the end tells more than the middle.
    return text if len(text) <= 80 else f"{text[:38]} … {text[-38:]}"
