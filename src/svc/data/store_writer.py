"""Writing a feature store so that it survives being killed at any moment.

Every file appears whole or not at all: it is written under a temporary name in its own folder and
renamed. The unit of work is one recording: the arrays of all its slices first, then its record in
`sources/`. A record therefore promises that its arrays are there, and says from which bytes and
with which settings they were made. What no record promises is extracted (again), to the same
bytes, because a slice's id and features depend on nothing but its recording and the settings.
"""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from svc.data.store import (
    FAILURES,
    FEATURES,
    MANIFEST,
    META,
    REPORT,
    SOURCES,
    Feature,
    SliceRecord,
    StoreMeta,
    feature_path,
)
from svc.data.store_locks import in_turn, one_of_many_preparations, sole_preparation
from svc.errors import UserError

_PARTIAL = ".partial"


class StoreWriteError(UserError):
    """The store's folder cannot be written: a full disk, missing rights."""


@dataclass(frozen=True)
class SourceRecord:
    """What is known of one finished recording."""

    name: str
    speaker: str
    sha256: str
    """Of the recording's bytes."""
    fingerprints: dict[str, str]
    """Per stored feature (`ExtractionSettings.feature_fingerprints`)."""
    content_channels: int
    slices: tuple[SliceRecord, ...]

    def keeping(self, features: Collection[str]) -> "SourceRecord":
        """The same record, promising no more than these features."""
        kept = {name: mark for name, mark in self.fingerprints.items() if name in features}
        return replace(self, fingerprints=kept)

    def to_json(self) -> str:
        """Canonical text."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "SourceRecord":
        """The inverse of `to_json`.

        Raises:
            ValueError, KeyError, TypeError: it is not such a text.
        """
        values: dict[str, Any] = json.loads(text)
        slices = tuple(SliceRecord(**record) for record in values.pop("slices"))
        return cls(slices=slices, **values)


@dataclass(frozen=True)
class FailureRecord:
    """A recording that could not be extracted: done with, as long as nothing changes.

    Whoever only checks that everything has been tried (the merge of shards) goes by it; whoever
    extracts tries again.
    """

    name: str
    speaker: str
    sha256: str
    fingerprints: dict[str, str]
    """Of the features that were wanted, as in `SourceRecord`."""
    reason: str


class StoreWriter:
    """Writes into a store's folder. Several processes may hold one for the same folder.

    Args:
        folder: the store; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locked(self) -> AbstractContextManager[None]:
        """Be the only preparation of this store, waiting for others to end."""
        self._make(self.folder)
        return sole_preparation(self.folder)

    def in_turn(self) -> AbstractContextManager[None]:
        """Be the only one that looks whether this store is there, and makes it where it is not."""
        self._make(self.folder)
        return in_turn(self.folder)

    def locked_shard(self, shard: str) -> AbstractContextManager[None]:
        """Be the only preparation of this shard, beside those of other shards."""
        self._make(self.folder)
        return one_of_many_preparations(self.folder, shard)

    def write_array(
        self, speaker: str, slice_id: str, feature: Feature, values: NDArray[Any]
    ) -> None:
        """Write one feature of one slice.

        Raises:
            StoreWriteError: the folder cannot be written.
        """
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(values), allow_pickle=False)
        self._write(feature_path(self.folder, speaker, slice_id, feature), buffer.getbuffer())

    def read_array(self, speaker: str, slice_id: str, feature: Feature) -> NDArray[Any]:
        """Read one feature of one slice back.

        Raises:
            StoreWriteError: the file is missing or damaged.
        """
        path = feature_path(self.folder, speaker, slice_id, feature)
        try:
            values: NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StoreWriteError(
                f"{path} is missing or damaged ({error}). Delete {self.folder} and prepare the "
                f"dataset again."
            ) from error
        return values

    def write_source(self, record: SourceRecord) -> None:
        """Declare a recording finished; its arrays must have been written."""
        path, content = self._source_path(record.name), record.to_json().encode()
        if not _holds(path, content):
            self._write(path, content)

    def read_sources(self, names: Collection[str] | None = None) -> dict[str, SourceRecord]:
        """The finished recordings by name: these, or all.

        A record that cannot be read, or of which a file has been deleted, counts as unfinished.
        """
        if names is None:
            paths = sorted((self.folder / SOURCES).glob("*.json"))
        else:
            paths = [path for path in map(self._source_path, names) if path.is_file()]
        records = {}
        for path in paths:
            try:
                record = SourceRecord.from_json(path.read_text(encoding="utf-8"))
            except (ValueError, KeyError, TypeError):
                continue
            if all(file.is_file() for file in self._files(record)):
                records[record.name] = record
        return records

    def _files(self, record: SourceRecord) -> Iterator[Path]:
        for item in record.slices:
            for feature in record.fingerprints:
                yield feature_path(self.folder, item.speaker, item.id, cast(Feature, feature))

    def forget_source(self, name: str) -> None:
        """Take back the promise that a recording is finished."""
        self._source_path(name).unlink(missing_ok=True)

    def write_failure(self, record: FailureRecord) -> None:
        """Keep why a recording could not be extracted."""
        text = json.dumps(asdict(record), ensure_ascii=False, sort_keys=True)
        path, content = self._failure_path(record.name), text.encode()
        if not _holds(path, content):
            self._write(path, content)

    def read_failure(self, name: str) -> FailureRecord | None:
        """What is known of a recording that could not be extracted."""
        try:
            values = json.loads(self._failure_path(name).read_text(encoding="utf-8"))
            return FailureRecord(**values)
        except (OSError, ValueError, TypeError):
            return None

    def reopen(self) -> None:
        """Declare the store incomplete, before arrays that its manifest names are replaced."""
        (self.folder / MANIFEST).unlink(missing_ok=True)

    def finish(
        self,
        meta: StoreMeta,
        slices: Sequence[SliceRecord],
        sources: Sequence[SourceRecord],
        failures: Sequence[FailureRecord],
        report: dict[str, Any],
    ) -> None:
        """Make the store complete: remove what belongs to nothing, write meta, report, manifest.

        Files that already have their bytes are left alone. The result depends on the arguments
        alone, not on how many runs it took.
        """
        lines = "".join(
            record.to_line() + "\n" for record in sorted(slices, key=lambda record: record.id)
        )
        texts = {
            META: meta.to_yaml(),
            REPORT: json.dumps(report, ensure_ascii=False, indent=1) + "\n",
            MANIFEST: lines,
        }
        changed = {
            name: text.encode()
            for name, text in texts.items()
            if not _holds(self.folder / name, text.encode())
        }
        if META in changed or MANIFEST in changed:
            self.reopen()
        self._remove_strangers(sources, failures)
        for name, content in changed.items():
            self._write(self.folder / name, content)
        if not (self.folder / MANIFEST).is_file():
            self._write(self.folder / MANIFEST, lines.encode())

    def remove_partial_files(self) -> None:
        """Delete what killed runs left half-written."""
        for path in self.folder.rglob(f".*{_PARTIAL}"):
            path.unlink(missing_ok=True)

    def _remove_strangers(
        self, sources: Sequence[SourceRecord], failures: Sequence[FailureRecord]
    ) -> None:
        expected = {self._source_path(source.name) for source in sources}
        expected.update(self._failure_path(failure.name) for failure in failures)
        for source in sources:
            expected.update(self._files(source))
        for folder in (self.folder / FEATURES, self.folder / SOURCES, self.folder / FAILURES):
            for path in [*sorted(folder.rglob("*"), reverse=True), folder]:  # files come first
                if path.is_file() and path not in expected:
                    path.unlink()
                elif path.is_dir() and not any(path.iterdir()):
                    shutil.rmtree(path)

    def _source_path(self, name: str) -> Path:
        return self.folder / SOURCES / f"{source_key(name)}.json"

    def _failure_path(self, name: str) -> Path:
        return self.folder / FAILURES / f"{source_key(name)}.json"

    def _write(self, path: Path, content: bytes | memoryview) -> None:
        partial = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
        try:
            try:
                partial.write_bytes(content)
            except FileNotFoundError:
                self._make(path.parent)
                partial.write_bytes(content)
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StoreWriteError(
                f"Cannot write {path}: {error.strerror or error}. Free some space or give a store "
                f"folder that can be written, then run again: it goes on where it was."
            ) from error

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreWriteError(
                f"Cannot make the folder {folder}: {error.strerror or error}. Give a store folder "
                f"that can be written."
            ) from error


def source_key(name: str) -> str:
    """A file name for a recording: its stem, readable, and a hash of the whole name, unique."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-")[:40] or "recording"
    return f"{stem}_{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def slice_id(name: str, index: int) -> str:
    """Identity of the slice `index` of the recording `name`."""
    return f"{source_key(name)}_{index:04d}"


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
