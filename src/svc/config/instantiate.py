"""The one way in which configuration becomes live objects."""

import functools
import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from svc.errors import UserError

_OUR_TARGET = re.compile(r"svc(\.[a-z_][a-z0-9_]*)+\.[A-Za-z_]\w*")


def build(config: Mapping[str, Any], /, *, trusted: bool = True, **overrides: Any) -> Any:
    """Build the object that a node with `_target_` describes, its children first.

    Args:
        config: a node with `_target_`, plain or from OmegaConf; lists and mappings inside reach
            the constructors as plain lists and dicts.
        trusted: False for a node that came out of a file, such as a checkpoint: then every
            `_target_` must name a class or function that svc itself defines, so that a file can
            choose between our parts but cannot run anything else.
        overrides: values known only at run time. A mapping is merged into the child node of that
            name; anything else reaches the constructor as it is. `_partial_=True` returns a
            `functools.partial` instead of calling.

    Raises:
        UserError: the target is not allowed, cannot be found, or refuses its values.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf import DictConfig, OmegaConf

    plain: Any = config
    if isinstance(config, DictConfig):
        plain = OmegaConf.to_container(config, resolve=True)
    if not isinstance(plain, Mapping) or "_target_" not in plain:
        raise UserError(f"Expected a setting with a `_target_`, got {plain!r}.")
    if not trusted:
        for path, target in targets(plain):
            require_own_target(target, path)
    into_nodes = {key: value for key, value in overrides.items() if isinstance(value, Mapping)}
    node = {key: value for key, value in merged(plain, into_nodes).items() if key != "_partial_"}
    live = {
        key: value
        for key, value in overrides.items()
        if key not in into_nodes and key != "_partial_"
    }
    try:
        # Live objects stay out of Hydra's hands: it would take a dataclass for configuration.
        part = instantiate(node, _convert_="all", _partial_=True)
        if overrides.get("_partial_", plain.get("_partial_", False)):
            return functools.partial(part, **live) if live else part
        return part(**live)
    except UserError:
        raise
    except InstantiationException as error:
        raise _explained(error, plain["_target_"]) from error
    except (TypeError, ValueError) as error:
        raise UserError(f"Cannot build {plain['_target_']}: {error}") from error


def merged(node: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a plain tree with the values of another tree put into it."""
    result = dict(node)
    for key, value in changes.items():
        inner = result.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = merged(inner, value)
        result[key] = value
    return result


def targets(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every (path, `_target_`) in a plain tree of mappings and lists, parents first."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path or ".", str(node["_target_"])
        for key, child in node.items():
            yield from targets(child, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from targets(child, f"{path}[{index}]")


def locate(target: str) -> Any:
    """The class or function that a dotted name stands for.

    Raises:
        UserError: there is no such module or no such name in it.
    """
    module_name, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"`_target_: {target}` cannot be found ({error}).") from error


def require_own_target(target: str, path: str) -> None:
    """Refuse a target that is not defined by svc itself.

    A dotted name that merely passes through our modules (`svc.audio.io.os.system`) is refused as
    well: what is found must have been defined in the very module that it is named under.

    Raises:
        UserError: naming the place and the target.
    """
    refusal = UserError(
        f"{path}: `_target_: {target}` is not a part of svc. A checkpoint may only name parts of "
        f"svc; this file was made by something else or has been tampered with, and is not loaded."
    )
    if not _OUR_TARGET.fullmatch(target):
        raise refusal
    try:
        found = locate(target)
    except UserError as error:
        raise refusal from error
    if not callable(found) or getattr(found, "__module__", None) != target.rpartition(".")[0]:
        raise refusal


def _explained(error: Exception, target: str) -> UserError:
    """The root cause in words, without Hydra's wrapping."""
    place = re.search(r"full_key: (\S+)", str(error))
    where = f"{place.group(1)} " if place else ""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
        if isinstance(cause, UserError):
            return UserError(str(cause))
    reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    return UserError(f"Cannot build {where}({target}): {reason}")
