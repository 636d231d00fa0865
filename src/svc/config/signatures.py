"""Settings held against the constructors that will receive them."""

import inspect
import typing
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from svc.config.instantiate import locate
from svc.errors import UserError

_SCALARS = {int, float, str, bool, type(None)}


def signature_faults(
    node: Any, path: str = "", run_time: Mapping[str, Collection[str]] | None = None
) -> list[str]:
    """Everything in a tree of `_target_` nodes that a constructor would refuse.

    Args:
        node: plain tree of mappings, lists and scalars.
        path: where the tree hangs in the configuration, for the messages.
        run_time: by path, the arguments that are passed at the call and so need not be set.

    Returns:
        One message per unknown argument, missing argument and value of a wrong type.
    """
    faults: list[str] = []
    if isinstance(node, Mapping):
        if "_target_" in node:
            faults += _node_faults(node, path, (run_time or {}).get(path, ()))
        for key, child in node.items():
            faults += signature_faults(child, f"{path}.{key}" if path else str(key), run_time)
    elif isinstance(node, list):
        for index, child in enumerate(node):
            faults += signature_faults(child, f"{path}[{index}]", run_time)
    return faults


def with_values_as_wanted(node: Any) -> Any:
    """A copy of a tree without faults, each value in the type that its constructor asks for: 1000
    for the 1e3 of a number of steps, false for the `no` of a switch."""
    if isinstance(node, list):
        return [with_values_as_wanted(child) for child in node]
    if not isinstance(node, Mapping):
        return node
    hints: dict[str, Any] = {}
    if "_target_" in node:
        hints = _type_hints(locate(str(node["_target_"])))
    return {
        key: _as_wanted(value, hints[key])
        if key in hints and isinstance(value, str | int | float)
        else with_values_as_wanted(value)
        for key, value in node.items()
    }


def _node_faults(node: Mapping[str, Any], path: str, run_time: Collection[str]) -> list[str]:
    try:
        target = locate(str(node["_target_"]))
    except UserError as error:
        return [f"{path}: {error}"]
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # built-in types do not tell
        return []
    hints = _type_hints(target)
    if hints.get("return") is NoReturn:  # an option that is planned and only explains itself
        return [_explanation(target, node)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [
        n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    faults = []
    for key, value in node.items():
        if key in ("_target_", "_partial_", "_convert_", "_recursive_", "_args_"):
            continue
        if key not in known:
            if not takes_any:
                faults.append(
                    f"{path}.{key} is not a setting of {node['_target_']}{_nearest(key, known)}. "
                    f"~{path}.{key} takes it out, where a file gives it."
                )
        elif key in hints and (problem := _type_problem(value, hints[key])):
            faults.append(f"{path}.{key}={_shown(value)} {problem}.")
    if not node.get("_partial_"):
        required = [n for n in known if parameters[n].default is inspect.Parameter.empty]
        faults += [
            f"{path}.{name} is missing; {node['_target_']} needs it."
            for name in required
            if name not in node and name not in run_time
        ]
    return faults


def _explanation(target: Any, node: Mapping[str, Any]) -> str:
    try:
        target(**{key: value for key, value in node.items() if not key.startswith("_")})
    except UserError as error:
        return str(error)
    raise TypeError(f"{target} is annotated as never returning, but returned")


def _type_hints(target: Any) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):
        return {}


def _type_problem(value: Any, hint: Any) -> str | None:
    """Why a plain value does not fit an annotation, or None where it fits or cannot be judged."""
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError

    if isinstance(value, Mapping) and "_target_" in value:
        return None
    if value is None and not _leaves(hint) & {type(None), object, Any}:
        return "must not be null"
    hint = _without_live_objects(hint)
    if not _leaves(hint) <= _SCALARS:
        return None
    if isinstance(value, bool) and bool not in _leaves(hint) and _leaves(hint) <= {int, float}:
        return f"must be a number, got {str(value).lower()}"
    try:
        TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        return f"is not valid: {error.errors()[0]['msg'].lower()}"
    except PydanticSchemaGenerationError:
        return None
    return None


def _as_wanted(value: str | int | float, hint: Any) -> Any:
    """A value that has been found to fit, as an instance of what it fits."""
    from pydantic import TypeAdapter

    hint = _without_live_objects(hint)
    leaves = _leaves(hint)
    is_so_already = type(value) in leaves or (float in leaves and type(value) is int)
    if is_so_already or not leaves <= _SCALARS:
        return value
    return TypeAdapter(hint).validate_python(value)


def _without_live_objects(hint: Any) -> Any:
    """`float` for `float | Tensor`: nothing that can be typed is a tensor or a part of a model."""
    if get_origin(hint) in (tuple, list):
        return get_origin(hint)[tuple(map(_without_live_objects, get_args(hint)))]
    if get_origin(hint) not in (Union, UnionType):
        return hint
    plain = [
        member
        for member in get_args(hint)
        if getattr(member, "__module__", "").partition(".")[0] not in ("torch", "lightning", "svc")
    ]
    return Union[tuple(plain)] if plain else hint  # noqa: UP007 (a union made of a list)


def _leaves(hint: Any) -> set[Any]:
    """The plain types that an annotation is made of."""
    if get_origin(hint) is Literal:
        return {type(choice) for choice in get_args(hint)}
    if get_args(hint):
        return set().union(*(_leaves(a) for a in get_args(hint) if a is not Ellipsis))
    return {hint if isinstance(hint, type) else object}


def _nearest(key: str, known: list[str]) -> str:
    close = get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; it has {', '.join(sorted(known))}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, str) else repr(value)
