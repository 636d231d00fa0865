"""How recordings become features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svc.audio.spec import AudioSpec
from svc.data.augmentation.content import ContentPerturbation
from svc.data.settings import ExtractionSettings, PartFactory
from svc.errors import UserError
from svc.features.content.base import ContentEncoder
from svc.features.energy.base import EnergyExtractor
from svc.features.pitch.base import PitchTracker


@dataclass(frozen=True)
class Recipe:
    """What a preparation is told, and each of its workers builds its extractors from."""

    spec: AudioSpec
    slicing: Mapping[str, Any]
    """Arguments of `slice_at_silences`."""
    content: PartFactory[ContentEncoder]
    pitch: PartFactory[PitchTracker]
    energy: PartFactory[EnergyExtractor]
    store_mel: bool = False
    perturbation: PartFactory[ContentPerturbation] | None = None
    """Makes the audio of the content variants; None where none are stored."""
    batch_s: float | None = 120.0
    """Seconds of audio, perturbed copies included, that are held at once and go through the
    extractors together; None or 0 for one slice at a time. Says how fast, not what."""

    def __post_init__(self) -> None:
        if self.batch_s is not None and not self.batch_s >= 0:
            raise UserError(
                f"preparation.batch_s={self.batch_s} must be at least 0, or null for one slice at "
                f"a time."
            )

    def settings(self) -> ExtractionSettings:
        """What determines the features."""
        return ExtractionSettings.of(
            spec=self.spec,
            slicing=self.slicing,
            content=self.content,
            pitch=self.pitch,
            energy=self.energy,
            store_mel=self.store_mel,
            perturbation=self.perturbation,
        )
