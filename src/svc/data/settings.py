"""What determines the stored features, as plain values that can be compared and fingerprinted."""

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from svc.audio.slicing import slice_at_silences
from svc.audio.spec import AudioSpec
from svc.data.augmentation.content import ContentPerturbation
from svc.errors import UserError
from svc.features.content.base import ContentEncoder
from svc.features.energy.base import EnergyExtractor
from svc.features.pitch.base import PitchTracker

Part = TypeVar("Part")
PartFactory = functools.partial[Part] | type[Part]
"""How a part is made: a class, or a `functools.partial` of one. It can be recorded (what determines
the features), compared, and sent to worker processes, which a live part cannot always be."""

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]

_NOT_DETERMINING = frozenset({"device", "threads", "batch_size", "cache_folder", "offline"})
"""Constructor arguments that say where or how fast a part computes, not what."""

_SECTIONS = ("audio", "slicing", "content", "pitch", "energy", "mel", "perturbation")
_OPTIONAL = {
    "mel": "not stored, but wanted",
    "perturbation": "no content variants are stored, but wanted (augmentation=default makes and "
    "uses them, augmentation=online and augmentation=none do without)",
}
"""Sections of features that are only stored on demand, and what their absence means."""


@dataclass(frozen=True)
class ExtractionSettings:
    """Everything that determines the features of a recording.

    Two stores with equal settings, made from the same files, hold the same features. Settings that
    only say how fast or where something is computed (a device) are left out.
    """

    audio: dict[str, Plain]
    """Sample rate and hop."""
    slicing: dict[str, Plain]
    """How recordings are cut."""
    content: dict[str, Plain]
    """Class, arguments and `identity()` of the content encoder; the same for the next two."""
    pitch: dict[str, Plain]
    energy: dict[str, Plain]
    mel: dict[str, Plain] | None = field(default=None)
    """Window and mel range, where mels are stored; None where they are not."""
    perturbation: dict[str, Plain] | None = field(default=None)
    """How audio is perturbed for the content variants, where those are stored."""

    @classmethod
    def of(
        cls,
        *,
        spec: AudioSpec,
        slicing: Mapping[str, Any],
        content: PartFactory[ContentEncoder],
        pitch: PartFactory[PitchTracker],
        energy: PartFactory[EnergyExtractor],
        store_mel: bool = False,
        perturbation: PartFactory[ContentPerturbation] | None = None,
    ) -> "ExtractionSettings":
        """The settings of parts.

        Args:
            spec: framing.
            slicing: arguments of `svc.audio.slicing.slice_at_silences`; the others are recorded
                with their defaults.
            content, pitch, energy: how the extractors are made; see `part_settings`.
            store_mel: whether mels are stored too.
            perturbation: what content variants are made with; None where none are stored.

        Raises:
            UserError: `slicing` names something that is no such argument.
        """
        mel = {
            "window_samples": spec.window_samples,
            "mel_bins": spec.mel_bins,
            "mel_min_hz": float(spec.mel_min_hz),
            "mel_max_hz": float(spec.mel_max_hz),
        }
        return cls(
            audio={"sample_rate_hz": spec.sample_rate_hz, "hop_samples": spec.hop_samples},
            slicing=_slicing_settings(slicing),
            content=part_settings(content),
            pitch=part_settings(pitch),
            energy=part_settings(energy),
            mel=plain(mel) if store_mel else None,
            perturbation=part_settings(perturbation) if perturbation is not None else None,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ExtractionSettings":
        """The inverse of `as_dict`."""
        return cls(**{section: values.get(section) for section in _SECTIONS})  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Plain]:
        """Plain containers, in the order of the sections; no perturbation where there is none."""
        values = {section: getattr(self, section) for section in _SECTIONS}
        if self.perturbation is None:  # as it was before there were any: fingerprints stay
            del values["perturbation"]
        return values

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change whenever a setting does."""
        return fingerprint_of(self.as_dict())

    def feature_fingerprints(self) -> dict[str, str]:
        """The fingerprint of each stored feature: of its own settings and those of the audio that
        it is measured on. A feature is extracted again where its fingerprint changes."""
        base = {"audio": self.audio, "slicing": self.slicing}
        own: dict[str, Any] = {
            "audio": {},
            "content": self.content,
            "f0": self.pitch,
            "energy": self.energy,
        }
        if self.mel is not None:
            own["mel"] = self.mel
        if self.perturbation is not None:
            own["variants"] = {"content": self.content, "perturbation": self.perturbation}
        return {feature: fingerprint_of({**base, "own": values}) for feature, values in own.items()}

    def difference(self, wanted: "ExtractionSettings") -> list[str]:
        """Readable lines for every setting that `wanted` has otherwise, none where they agree.

        Stored mels and content variants that are not wanted are no difference: they are simply not
        read.
        """
        mine, theirs = self.as_dict(), wanted.as_dict()
        missing = []
        for section, absence in _OPTIONAL.items():
            if mine.get(section) is None and theirs.get(section) is not None:
                missing.append(f"{section}: {absence}")
            if mine.get(section) is None or theirs.get(section) is None:
                mine.pop(section, None)
                theirs.pop(section, None)
        stored, other = _flatten(mine), _flatten(theirs)
        lines = []
        for key in sorted(stored.keys() | other.keys()):
            if stored.get(key) != other.get(key) or (key in stored) != (key in other):
                lines.append(f"{key}: stored {_shown(stored, key)}, wanted {_shown(other, key)}")
        return [*lines, *missing]


def part_settings(part: PartFactory[Any]) -> dict[str, Plain]:
    """Class, constructor arguments (defaults too) and `identity()` of a part, as plain values.

    Builds the part to ask for its identity. Where that is told, the argument `model` is left out:
    it says where the weights lie, and the identity says what they are.

    Raises:
        TypeError: an argument is neither a plain value nor made of such.
        UserError: the part refuses its arguments.
    """
    maker: Callable[..., Any] = part
    factory = maker if isinstance(maker, functools.partial) else functools.partial(maker)
    kind: Callable[..., Any] = factory.func
    bound = inspect.signature(kind).bind(*factory.args, **factory.keywords)
    bound.apply_defaults()
    live: Any = factory()
    identity: dict[str, str] = live.identity() if hasattr(live, "identity") else {}
    left_out = _NOT_DETERMINING | ({"model"} if identity else set())
    arguments = {name: value for name, value in bound.arguments.items() if name not in left_out}
    target = f"{kind.__module__}.{kind.__qualname__}"
    return dict(plain({"_target_": target, **arguments, **identity}))


def _slicing_settings(slicing: Mapping[str, Any]) -> dict[str, Plain]:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(slice_at_silences).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    unknown = sorted(slicing.keys() - defaults.keys())
    if unknown:
        raise UserError(
            f"preparation.slicing has no setting {', '.join(unknown)}; it has "
            f"{', '.join(defaults)}."
        )
    return dict(plain({**defaults, **slicing}))


def plain(value: Any) -> Any:
    """`value` made of what JSON and YAML can hold alike; a part inside a part by its settings.

    Raises:
        TypeError: it holds something else.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__fspath__"):
        return str(value)
    if isinstance(value, functools.partial | type):
        return part_settings(value)
    raise TypeError(f"A setting must be a plain value and is {type(value).__name__}: {value!r}.")


def fingerprint_of(value: Any) -> str:
    """First sixteen digits of the SHA-256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"pitch": {"f0_min_hz": 40}} -> {"pitch.f0_min_hz": 40}."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat.update(_flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "nothing"
