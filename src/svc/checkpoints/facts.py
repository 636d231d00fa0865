"""What files of svc say about the model inside them, besides its weights."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from svc import __version__
from svc.audio.spec import AudioSpec
from svc.errors import UserError
from svc.hashing import file_sha256

FORMAT_VERSION = 2
"""Raised by one when older versions of svc could no longer read the file; `_MIGRATIONS` then gets
the step that reads what the older ones wrote."""

REMOVED_SPEAKER = ""
"""In the place of a name that is gone, so that the others keep their index."""


def _from_1_to_2(plain: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew neither licences nor where weights came from."""
    return {**plain, "licence": None, "parents": []}


_MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1_to_2}
"""By version, what makes plain facts of that version those of the next."""


@dataclass(frozen=True)
class CheckpointFacts:
    """Everything besides weights that a conversion with a model needs."""

    config: dict[str, Any]
    """The resolved configuration of the run: plain dicts, lists, strings, numbers, None."""
    audio: AudioSpec
    """Framing and mel that the model was trained with."""
    features: dict[str, Any]
    """Resolved extraction settings, plain; empty where a published file does not tell them."""
    feature_fingerprint: str
    """Fingerprint of these settings, as in the feature store."""
    speakers: list[str]
    """Names in the order of their indices; `REMOVED_SPEAKER` for one that was removed."""
    content_channels: int
    """Width of the content features; 0 for a vocoder that was published."""
    licence: str | None = None
    """Under which the weights may be used; None where nobody said."""
    parents: list[dict[str, Any]] = field(default_factory=list)
    """The files that the weights came from, see `parent_of`; the nearest last."""
    dataset: dict[str, Any] | None = None
    """What the training remembers of its dataset, plain (`svc.data.fingerprint.DatasetRecord`
    without names); None where nobody recorded it."""
    svc_version: str = __version__
    """The version that wrote the file."""
    format_version: int = FORMAT_VERSION
    """Version of this layout."""

    def run_time_arguments(self, generator: Mapping[str, Any]) -> dict[str, Any]:
        """What the node of a generator does not say, because only the data knew it."""
        if "conditioner" not in generator:
            return {}
        known = {"content_channels": self.content_channels, "speakers": len(self.speakers)}
        return {"conditioner": known}

    @property
    def named_speakers(self) -> list[str]:
        """Those that can be sung with."""
        return [name for name in self.speakers if name != REMOVED_SPEAKER]

    def to_plain(self) -> dict[str, Any]:
        """Nested dicts and lists of plain values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "CheckpointFacts":
        """The inverse of `to_plain`, for facts of this or any earlier version.

        Raises:
            UserError: made by a newer version, or a fact is missing or of another kind.
        """
        current = {"dataset": None, **_current(plain)}  # which files did not hold at first
        try:
            values = {name: current[name] for name in cls.__dataclass_fields__}
            facts = cls(**{**values, "audio": AudioSpec(**current["audio"])})
        except (KeyError, TypeError) as error:
            raise UserError(
                f"lacks facts about the model ({error}); it is damaged or not made by svc-train."
            ) from error
        if wrong := facts._of_another_kind():
            raise UserError(
                f"holds facts about the model that make no sense ({', '.join(wrong)}); it is "
                f"damaged."
            )
        return facts

    def _of_another_kind(self) -> list[str]:
        """Facts that were something else in the file."""
        kinds: dict[str, tuple[Any, Any]] = {
            "config": (self.config, dict),
            "features": (self.features, dict),
            "feature_fingerprint": (self.feature_fingerprint, str),
            "speakers": (self.speakers, list),
            "content_channels": (self.content_channels, int),
            "licence": (self.licence, str | None),
            "parents": (self.parents, list),
            "dataset": (self.dataset, dict | None),
            "svc_version": (self.svc_version, str),
        }
        wrong = [name for name, (value, kind) in kinds.items() if not isinstance(value, kind)]
        if "speakers" not in wrong and not all(isinstance(name, str) for name in self.speakers):
            wrong.append("speakers")
        if "parents" not in wrong and not all(isinstance(parent, dict) for parent in self.parents):
            wrong.append("parents")
        return wrong


def facts_from_json(text: str, of: str) -> dict[str, Any]:
    """Plain facts as they lie in the metadata of a file.

    Args:
        text: JSON.
        of: what they are about, for the message.

    Raises:
        UserError: it is none, or no mapping.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict):
        raise UserError(f"holds facts about {of} that make no sense; it is damaged.")
    return plain


def parent_of(path: Path, kind: str, licence: str | None) -> dict[str, Any]:
    """What is recorded of a file that weights came from.

    Args:
        path: of the file.
        kind: name of its layout; "svc" for our own.
        licence: of the file, None where it is not known.

    Raises:
        OSError: the file cannot be read.
    """
    return {"file": path.name, "sha256": file_sha256(path), "kind": kind, "licence": licence}


def _current(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of any version up to ours as ours has them.

    Raises:
        UserError: made by a newer version, or by none.
    """
    version = plain.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise UserError(
            f"was written by svc {plain.get('svc_version', '?')} in format {version}; this "
            f"svc {__version__} reads formats up to {FORMAT_VERSION}. Install "
            f"a newer version of svc."
        )
    current = dict(plain)
    while version < FORMAT_VERSION:
        current = _MIGRATIONS[version](current)
        version += 1
        current["format_version"] = version
    return current
