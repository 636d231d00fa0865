"""What tells one prepared dataset from another: by content, not by where it lies."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from svc.data.settings import fingerprint_of
from svc.data.store import FeatureStore, SliceRecord

_READ_BY_EVERY_TRAINING = ("audio", "content", "f0", "energy")
"""Features whose settings count. Stored mels and content variants are read on demand only; what
they must be like is in the settings of the training that reads them."""

_NAMES_SHOWN = 3
"""Recordings that a message names; the rest is counted."""


def dataset_fingerprint(store: FeatureStore) -> str:
    """Sixteen hexadecimal digits that change whenever what a training reads of a dataset does.

    They depend on the slices (id, speaker, hash of the recording, place in it, length), on their
    split into training and validation, on the speaker table, and on the settings that the features
    were extracted with; not on the folder or on when and in what order it was prepared. Neither
    audio nor features are read.

    Args:
        store: the prepared dataset.
    """
    return fingerprint_of(
        {
            "slices": sorted(_what_is_read(record) for record in store.slices),
            "speakers": list(store.speakers),
            "features": _feature_marks(store),
        }
    )


@dataclass(frozen=True)
class DatasetRecord:
    """What a training remembers of its dataset, to tell later what has become of it."""

    fingerprint: str
    """`dataset_fingerprint`."""
    slices: int
    valid_slices: int
    """Of these, for validation."""
    minutes: float
    speakers: list[str]
    """The table."""
    features: dict[str, str]
    """Fingerprint of the settings of each feature that every training reads."""
    recordings: dict[str, str] | None = None
    """Name of each recording -> first digits of its hash; None where they are not kept."""

    @classmethod
    def of(cls, store: FeatureStore) -> "DatasetRecord":
        """Of a prepared dataset; neither audio nor features are read."""
        return cls(
            fingerprint=dataset_fingerprint(store),
            slices=len(store.slices),
            valid_slices=len(store.split("valid")),
            minutes=round(sum(record.duration_s for record in store.slices) / 60, 3),
            speakers=list(store.speakers),
            features=_feature_marks(store),
            recordings={record.source: record.source_sha256[:16] for record in store.slices},
        )

    def without_names(self) -> "DatasetRecord":
        """The same without its recordings, for files that are given away."""
        return replace(self, recordings=None)

    def to_plain(self) -> dict[str, Any]:
        """Plain containers, as JSON and checkpoints hold them."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Any) -> "DatasetRecord":
        """The inverse of `to_plain`.

        Raises:
            ValueError: it is not what that returns.
        """
        try:
            record = cls(**plain)
            kinds = (str, int, int, int | float, list, dict, dict | None)
            values = asdict(record).values()
            fits = all(isinstance(value, kind) for value, kind in zip(values, kinds, strict=True))
        except TypeError as error:
            raise ValueError(f"no record of a dataset: {error}") from error
        if not fits:
            raise ValueError("no record of a dataset: a value is of another kind")
        return record

    def changes(self, now: "DatasetRecord") -> list[str]:
        """What has become of the dataset, a line each; empty where the fingerprints are equal."""
        if self.fingerprint == now.fingerprint:
            return []
        numbers = {
            "slices": (str(self.slices), str(now.slices)),
            "slices for validation": (str(self.valid_slices), str(now.valid_slices)),
            "minutes": (f"{self.minutes:.1f}", f"{now.minutes:.1f}"),
        }
        lines = [f"{what}: {was} → {then}" for what, (was, then) in numbers.items() if was != then]
        if self.speakers != now.speakers:
            lines.append(f"speakers: {', '.join(self.speakers)} → {', '.join(now.speakers)}")
        if self.recordings is not None and now.recordings is not None:
            lines += _changed_recordings(self.recordings, now.recordings)
        lines += [
            f"{feature}: extracted with other settings or weights"
            for feature in sorted(self.features.keys() | now.features.keys())
            if self.features.get(feature) != now.features.get(feature)
        ]
        return lines or ["slices: cut or split between training and validation otherwise"]


def _changed_recordings(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    kinds = {
        "added": now.keys() - was.keys(),
        "removed": was.keys() - now.keys(),
        "changed": {name for name in was.keys() & now.keys() if was[name] != now[name]},
    }
    return [f"recordings {kind}: {_some(names)}" for kind, names in kinds.items() if names]


def _some(names: Collection[str]) -> str:
    """How many, and the first of them by name."""
    rest = ", …" if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} ({', '.join(sorted(names)[:_NAMES_SHOWN])}{rest})"


def _feature_marks(store: FeatureStore) -> dict[str, str]:
    """Of each feature that every training reads, the fingerprint of its settings."""
    of_all = store.meta.settings.feature_fingerprints()
    return {feature: of_all[feature] for feature in _READ_BY_EVERY_TRAINING}


def _what_is_read(record: SliceRecord) -> tuple[str, str, str, int, int, int, str]:
    return (
        record.id,
        record.speaker,
        record.source_sha256,
        record.start_sample,
        record.frames,
        record.content_frames,
        record.split,
    )
