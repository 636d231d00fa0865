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
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from svc.data.store import (
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
from svc.errors import UserError

_LOG = logging.getLogger(__name__)

_PARTIAL = ".partial"
_LOCK = ".lock"


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


class StoreWriter:
    """Writes into a store's folder. Several processes may hold one for the same folder.

    Args:
        folder: the store; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only preparation of this store, waiting for another one to end.

        Jobs of a sweep share a dataset: the first prepares it, the others find it done. The lock
        of a killed process is free.
        """
        self._make(self.folder)
        lock = FileLock(self.folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _LOG.warning("Another process is preparing %s now: waiting for it.", self.folder)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

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

    def read_sources(self) -> dict[str, SourceRecord]:
        """The finished recordings by name.

        A record that cannot be read, or of which a file has been deleted, counts as unfinished.
        """
        records = {}
        for path in sorted((self.folder / SOURCES).glob("*.json")):
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

    def reopen(self) -> None:
        """Declare the store incomplete, before arrays that its manifest names are replaced."""
        (self.folder / MANIFEST).unlink(missing_ok=True)

    def finish(
        self,
        meta: StoreMeta,
        slices: Sequence[SliceRecord],
        sources: Sequence[SourceRecord],
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
        self._remove_strangers(sources)
        for name, content in changed.items():
            self._write(self.folder / name, content)
        if not (self.folder / MANIFEST).is_file():
            self._write(self.folder / MANIFEST, lines.encode())

    def remove_partial_files(self) -> None:
        """Delete what killed runs left half-written."""
        for path in self.folder.rglob(f".*{_PARTIAL}"):
            path.unlink(missing_ok=True)

    def _remove_strangers(self, sources: Sequence[SourceRecord]) -> None:
        expected = {self._source_path(source.name) for source in sources}
        for source in sources:
            expected.update(self._files(source))
        for folder in (self.folder / FEATURES, self.folder / SOURCES):
            for path in sorted(folder.rglob("*"), reverse=True):  # files before their folder
                if path.is_file() and path not in expected:
                    path.unlink()
                elif path.is_dir() and not any(path.iterdir()):
                    shutil.rmtree(path)

    def _source_path(self, name: str) -> Path:
        return self.folder / SOURCES / f"{source_key(name)}.json"

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
