"""The feature store: one folder that holds a prepared dataset.

    meta.yaml                             settings, fingerprint, speakers, content grid, versions
    manifest.jsonl                        one line per slice (`SliceRecord`), sorted by id
    report.json                           what the preparation found (`svc.data.report`)
    sources/<key>.json                    one finished recording each (`svc.data.store_writer`)
    failures/<key>.json                   one recording each that could not be extracted, and why
    features/<speaker>/<id>.audio.npy     [N * hop] int16, full scale 32767
                            .content.npy  [N', C] float16, on the encoder's own frame grid
                            .f0.npy       [N] float32 in Hz; negative where unvoiced (see below)
                            .energy.npy   [N] float32, linear RMS
                            .mel.npy      [N, M] float16 natural log, only where it was asked for
                            .variants.npy [V, N', C] float16, content of V perturbed copies of the
                                          audio, only where it was asked for

F0 and voicing share a file: a positive number is the F0 of a voiced frame, a negative one is minus
the F0 interpolated through an unvoiced frame, and a recording without any voiced frame holds zeros.

A store is complete exactly while it has a manifest. B batch, C channels, N frames, M mel bins.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from svc.audio.spec import AudioSpec
from svc.data.settings import ExtractionSettings
from svc.errors import UserError
from svc.features.content.base import FrameGrid

FORMAT_VERSION = 1
MANIFEST = "manifest.jsonl"
META = "meta.yaml"
REPORT = "report.json"
SOURCES = "sources"
FAILURES = "failures"
FEATURES = "features"
AUDIO_FULL_SCALE = 32767.0

Feature = Literal["audio", "content", "f0", "energy", "mel", "variants"]
Split = Literal["train", "valid"]


@dataclass(frozen=True)
class SliceRecord:
    """One slice of a recording: a line of the manifest."""

    id: str
    """Unique in the store; the stem of its files."""
    speaker: str
    source: str
    """Name of the recording within its source."""
    source_sha256: str
    start_sample: int
    """Where the slice begins in the recording, at the store's sample rate."""
    start_s: float
    duration_s: float
    frames: int
    """N, whole frames on the mel's grid."""
    content_frames: int
    """N', frames on the content encoder's grid."""
    gain: float
    """What the audio was multiplied by before it was stored: below 1 only where the slice's peak
    was above full scale, otherwise 1."""
    rms_db: float
    """Level of the stored audio, dB below full scale."""
    peak_db: float
    clipped_share: float
    """Share of samples at or above 0.999 of full scale, before the gain."""
    voiced_share: float
    f0_median_hz: float
    """Over voiced frames; 0 where there are none, as for the next two."""
    f0_min_hz: float
    f0_max_hz: float
    split: Split = "train"

    def to_line(self) -> str:
        """One line of JSON, without a line end."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(", ", ": "))


@dataclass(frozen=True)
class StoreMeta:
    """Facts about a whole store."""

    settings: ExtractionSettings
    speakers: tuple[str, ...]
    """The speaker table: a speaker's index is its place here (sorted by name)."""
    content_channels: int
    content_grid: FrameGrid
    svc_version: str

    def to_yaml(self) -> str:
        """The text of meta.yaml."""
        values = {
            "format_version": FORMAT_VERSION,
            "svc_version": self.svc_version,
            "fingerprint": self.settings.fingerprint,
            "speakers": list(self.speakers),
            "content_channels": self.content_channels,
            "content_grid": asdict(self.content_grid),
            "settings": self.settings.as_dict(),
        }
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str) -> "StoreMeta":
        """The inverse of `to_yaml`.

        Raises:
            ValueError: it is not the text of a meta.yaml of this format version.
        """
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"not YAML: {error}") from error
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise ValueError(f"format_version is {version!r}, expected {FORMAT_VERSION}")
        try:
            return cls(
                settings=ExtractionSettings.from_dict(values["settings"]),
                speakers=tuple(values["speakers"]),
                content_channels=int(values["content_channels"]),
                content_grid=FrameGrid(**values["content_grid"]),
                svc_version=str(values["svc_version"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"incomplete: {error}") from error


class FeatureStore:
    """A complete store, opened for reading.

    Args:
        folder: where it lies.
        meta: content of its meta.yaml.
        slices: its manifest.
    """

    def __init__(self, folder: Path, meta: StoreMeta, slices: Sequence[SliceRecord]) -> None:
        self.folder = folder
        self.meta = meta
        self.slices = tuple(slices)
        self._speaker_index = {name: index for index, name in enumerate(meta.speakers)}

    @classmethod
    def open(cls, folder: str | Path, wanted: ExtractionSettings | None = None) -> "FeatureStore":
        """Open a prepared dataset.

        Args:
            folder: where it lies.
            wanted: settings that it must have been made with; None takes it as it is.

        Raises:
            UserError: there is no complete store, it is damaged, or its settings are others than
                `wanted` (the message shows the difference).
        """
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            state = (
                "holds a preparation that has not finished"
                if (folder / SOURCES).is_dir()
                else "is not a prepared dataset"
            )
            raise UserError(
                f"{folder} {state} (it has no {MANIFEST}). Run svc-preprocess with the same "
                f"settings: it begins, or goes on where it was."
            )
        try:
            meta = StoreMeta.from_yaml((folder / META).read_text(encoding="utf-8"))
            lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
            slices = [SliceRecord(**json.loads(line)) for line in lines]
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"The prepared dataset {folder} cannot be read ({error}). Delete that folder and "
                f"prepare it again."
            ) from error
        if wanted is not None:
            check_settings(folder, meta.settings, wanted)
        return cls(folder, meta, slices)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speaker table."""
        return self.meta.speakers

    @property
    def content_channels(self) -> int:
        """C, the width of the content features."""
        return self.meta.content_channels

    @property
    def has_mel(self) -> bool:
        """Whether mels are stored."""
        return self.meta.settings.mel is not None

    @property
    def content_variants(self) -> int:
        """V, how many perturbed variants of the content are stored; 0 where none are."""
        perturbation = self.meta.settings.perturbation or {}
        return int(str(perturbation.get("variants", 0)))

    def spec(self, mel: Mapping[str, Any] | None = None) -> AudioSpec:
        """The framing of the store, with the stored mels' range, or `mel`'s, or the default."""
        return AudioSpec(**{**self.meta.settings.audio, **(mel or self.meta.settings.mel or {})})

    def with_speaker_table(self, names: Sequence[str]) -> "FeatureStore":
        """The same store, its speakers at their places in the table of a model.

        Args:
            names: of the table; holds all of the store's speakers.

        Raises:
            ValueError: a speaker is not in it.
        """
        missing = set(self.speakers) - set(names)
        if missing:
            raise ValueError(f"the speakers {sorted(missing)} are not in the table {list(names)}")
        other = copy.copy(self)
        other._speaker_index = {name: index for index, name in enumerate(names) if name}
        return other

    def speaker_index(self, speaker: str) -> int:
        """Place of a speaker in the speaker table.

        Raises:
            KeyError: the store has no such speaker.
        """
        return self._speaker_index[speaker]

    def split(self, split: Split) -> list[SliceRecord]:
        """The slices of one side of the split, sorted by id."""
        return [record for record in self.slices if record.split == split]

    def path(self, record: SliceRecord, feature: Feature) -> Path:
        """The file that holds a feature of a slice."""
        return feature_path(self.folder, record.speaker, record.id, feature)


def feature_path(folder: Path, speaker: str, slice_id: str, feature: Feature) -> Path:
    """Where a store keeps a feature of a slice."""
    return folder / FEATURES / speaker / f"{slice_id}.{feature}.npy"


def check_settings(folder: Path, stored: ExtractionSettings, wanted: ExtractionSettings) -> None:
    """Refuse features of other settings.

    Raises:
        UserError: the settings differ; the message lists every difference.
    """
    difference = stored.difference(wanted)
    if difference:
        raise UserError(
            "\n".join(
                [
                    f"The features in {folder} were extracted with other settings than this run "
                    f"wants:",
                    *(f"  - {line}" for line in difference),
                    "Run svc-preprocess with the settings of this run (it extracts again only what "
                    "they touch), change the settings back, or give another folder with "
                    "paths.store_dir=…",
                ]
            )
        )
