"""The demo data set: recordings of synthetic singers, made on first use."""

import os
import shutil
from collections.abc import Callable, Collection
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from svc.audio.io import write_audio
from svc.data.demo.phrases import training_phrase
from svc.data.demo.singers import SINGERS, Singer
from svc.data.sources import Recording
from svc.errors import UserError, UserErrors

GENERATOR_VERSION = 1
"""Raise it when the same settings come to make other audio: every demo data set is then remade."""

_FACTS_FILE = "demo.yaml"


class DemoSource:
    """Synthetic singers as a source of recordings: `path/<singer>/phrase_000.wav`, 16 bit.

    One core makes about 80 seconds of audio per second, so there is nothing to run in parallel.
    The files are made when `recordings` is first called. They are made in a folder beside `path`
    that takes its name when all of it is there; a killed run goes on where it was. `demo.yaml`
    holds the settings; a folder of other settings is replaced.

    Args:
        path: the folder; it must not exist yet, be empty, or hold an earlier demo.
        seed: of scores, performances and noise, at least 0. Same seed, same samples.
        singers: how many of the singers take part, 1 to 4.
        minutes_per_singer: about so much audio each, above 0.
        phrase_s: shortest and longest duration of a phrase in seconds, at least 2.
        shared_share: share of the phrases whose score every singer sings, 0 to 1.
        progress: called after every phrase with how many are done and how many there are.

    Raises:
        UserErrors: settings out of range, all of them at once.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        seed: int = 0,
        singers: int = 3,
        minutes_per_singer: float = 2.0,
        phrase_s: tuple[float, float] | list[float] = (6.0, 10.0),
        shared_share: float = 0.5,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        faults = _faults(seed, singers, minutes_per_singer, phrase_s, shared_share)
        if faults:
            raise UserErrors("The demo data set cannot be made with these settings:", faults)
        self.path = Path(path).expanduser()
        self.seed = seed
        self.singers: tuple[Singer, ...] = SINGERS[:singers]
        self.minutes_per_singer = float(minutes_per_singer)
        self.phrase_s = (float(phrase_s[0]), float(phrase_s[1]))
        self.shared_share = float(shared_share)
        self._progress = progress

    @property
    def name(self) -> str:
        """What reports call the source."""
        return "demo"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Everything that the recordings depend on, in plain containers."""
        return {
            "generator_version": GENERATOR_VERSION,
            "seed": self.seed,
            "singers": [singer.name for singer in self.singers],
            "minutes_per_singer": self.minutes_per_singer,
            "phrase_s": list(self.phrase_s),
            "shared_share": self.shared_share,
        }

    def changes(self) -> list[str]:
        """What is different about the recordings that are there; nothing where there are none."""
        there = _read_facts(self.path) or self.facts
        return [
            f"{key}: {there.get(key)} → {wanted}"
            for key, wanted in self.facts.items()
            if there.get(key) != wanted
        ]

    def recordings(self) -> list[Recording]:
        """Every recording, sorted by name; made first where they are not there yet.

        Raises:
            UserError: `path` holds something that is not a demo data set, or is not writable.
        """
        names = self._names()
        if not self._complete(names):
            try:
                self._make_once(names)
            except OSError as error:
                raise UserError(
                    f"Cannot make the demo data set in dataset.path={self.path}: {error}. Choose a "
                    f"folder that exists or can be made, is writable and has space left."
                ) from error
        return [
            Recording(path=self.path / name, speaker=singer.name, name=name)
            for name, (singer, _) in sorted(names.items())
        ]

    def _complete(self, names: Collection[str]) -> bool:
        whole = all((self.path / name).is_file() for name in names)
        return whole and _read_facts(self.path) == self.facts

    def _make_once(self, names: dict[str, tuple[Singer, int]]) -> None:
        """Make it, unless another process does: jobs of a sweep and shards start together."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_name(f".{self.path.name}.lock")
        with FileLock(lock):
            if not self._complete(names):
                self._make(names)
            lock.unlink(missing_ok=True)

    def _names(self) -> dict[str, tuple[Singer, int]]:
        """Name of every recording -> who sings which phrase."""
        phrases = ceil(60.0 * self.minutes_per_singer / (0.5 * sum(self.phrase_s)))
        return {
            f"{singer.name}/phrase_{index:03d}.wav": (singer, index)
            for singer in self.singers
            for index in range(phrases)
        }

    def _make(self, names: dict[str, tuple[Singer, int]]) -> None:
        _refuse_foreign_files(self.path)
        partial = self.path.with_name(f".{self.path.name}.partial")
        if partial.exists() and _read_facts(partial) != self.facts:
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        _write_facts(partial, self.facts)
        # A file under its final name is whole: write_audio renames it into place.
        missing = [name for name in names if not (partial / name).is_file()]

        for done, name in enumerate(missing, start=len(names) - len(missing) + 1):
            singer, index = names[name]
            phrase = training_phrase(
                self.seed,
                index,
                singer,
                phrase_s=self.phrase_s,
                shared_share=self.shared_share,
            )
            write_audio(partial / name, phrase.audio)
            if self._progress is not None:
                self._progress(done, len(names))
        for leftover in partial.rglob(".*.tmp"):
            leftover.unlink()
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(partial, self.path)


def _faults(
    seed: int,
    singers: int,
    minutes_per_singer: float,
    phrase_s: tuple[float, float] | list[float],
    shared_share: float,
) -> list[str]:
    faults = []
    if seed < 0:
        faults.append(f"dataset.seed={seed} must be at least 0.")
    if not 1 <= singers <= len(SINGERS):
        faults.append(f"dataset.singers={singers} must be 1 to {len(SINGERS)}.")
    if not 0.0 < minutes_per_singer < float("inf"):
        faults.append(f"dataset.minutes_per_singer={minutes_per_singer} must be above 0.")
    if len(phrase_s) != 2 or not 2.0 <= phrase_s[0] <= phrase_s[1] <= 60.0:
        faults.append(
            f"dataset.phrase_s={list(phrase_s)} must be [shortest, longest] in seconds, "
            f"from 2 to 60."
        )
    if not 0.0 <= shared_share <= 1.0:
        faults.append(f"dataset.shared_share={shared_share} must be from 0 to 1.")
    return faults


def _read_facts(folder: Path) -> Any:
    """The facts in a folder, or None where there are none that can be read."""
    try:
        return yaml.safe_load((folder / _FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    temporary = folder / f".{_FACTS_FILE}.tmp"
    temporary.write_text(yaml.safe_dump(facts, sort_keys=False), encoding="utf-8")
    os.replace(temporary, folder / _FACTS_FILE)


def _refuse_foreign_files(folder: Path) -> None:
    """Raise where replacing the folder would delete anything that is not a demo's own."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"dataset.path={folder} is a file; give a folder for the demo data set.")
    singers = {singer.name for singer in SINGERS}
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        own = parts in {(_FACTS_FILE,), (f".{_FACTS_FILE}.tmp",)} or (
            parts[0] in singers and (len(parts) == 1 or (len(parts) == 2 and "phrase_" in parts[1]))
        )
        if not own:
            raise UserError(
                f"dataset.path={folder} holds {file.relative_to(folder)}, which is not of a demo "
                f"data set, and the folder would be replaced. Give an empty folder or a new one."
            )
