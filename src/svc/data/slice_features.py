"""Slices -> features. Networks are given several slices at once, by length."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, get_args

import torch
from torch import Tensor

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.augmentation.content import ContentPerturbation
from svc.data.settings import PartFactory
from svc.data.store import Feature
from svc.features.content.base import ContentEncoder
from svc.features.energy.base import EnergyExtractor
from svc.features.pitch.base import Pitch, PitchTracker

_LOG = logging.getLogger(__name__)

ALL_FEATURES: frozenset[Feature] = frozenset(get_args(Feature))

Key = TypeVar("Key")
Result = TypeVar("Result")


@dataclass
class SliceFeatures:
    """What is wanted of a slice, and what has been measured of it."""

    id: str
    audio: Tensor
    """[T] float32, as it is stored."""
    wanted: frozenset[Feature]
    content: Tensor | None = None
    """[C, N']."""
    pitch: Pitch | None = None
    energy: Tensor | None = None
    """[N]."""
    mel: Tensor | None = None
    """[M, N]."""
    variants: list[Tensor] = field(default_factory=list)
    """[C, N'] each."""
    fault: Exception | None = None
    """Why nothing more of it can be measured."""


class SliceExtractors:
    """The live extractors of one process: at most one copy of each model.

    Args:
        spec: framing, and mel range where mels are stored.
        content, pitch, energy: how the extractors are made.
        store_mel: whether there are mels.
        perturbation: what content variants are made with, or None.
        only: features that will be asked for; what others need is not made.

    Raises:
        UserError: an extractor refuses its arguments, or lacks what it needs.
    """

    def __init__(
        self,
        spec: AudioSpec,
        content: PartFactory[ContentEncoder],
        pitch: PartFactory[PitchTracker],
        energy: PartFactory[EnergyExtractor],
        store_mel: bool,
        perturbation: PartFactory[ContentPerturbation] | None,
        only: Collection[Feature] = ALL_FEATURES,
    ) -> None:
        self._spec = spec
        self.content = content() if {"content", "variants"} & set(only) else None
        self.pitch = pitch() if "f0" in only else None
        self.energy = energy() if "energy" in only else None
        self.mel = MelSpectrogram(spec) if store_mel and "mel" in only else None
        self.perturbation = perturbation() if perturbation and "variants" in only else None

    @property
    def on_gpu(self) -> frozenset[Feature]:
        """The features that are not computed on the CPU."""
        features: set[Feature] = set()
        if self.content is not None and torch.device(self.content.device).type != "cpu":
            features |= {"content", "variants"}
        if self.pitch is not None and torch.device(self.pitch.device).type != "cpu":
            features.add("f0")
        return frozenset(features)

    def copies_of(self, wanted: Collection[Feature]) -> int:
        """How many perturbed copies of a slice are made for these features."""
        if self.perturbation is None or "variants" not in wanted:
            return 0
        return self.perturbation.variants

    def measure(self, slices: Sequence[SliceFeatures]) -> None:
        """Fill in what is wanted of each; where that cannot be, its `fault`.

        What comes out of a slice does not depend on the others, nor does what goes wrong: where
        slices cannot go through together, each goes by itself.
        """
        self._measure_content(slices)
        self._measure_pitch(slices)
        hop_samples = self._spec.hop_samples
        for item in slices:
            if item.fault is not None:
                continue
            try:
                if "energy" in item.wanted and self.energy is not None:
                    item.energy = self.energy.measure(item.audio, hop_samples)
                if "mel" in item.wanted and self.mel is not None:
                    item.mel = self.mel(item.audio)
            except Exception as error:
                item.fault = error

    def _measure_content(self, slices: Sequence[SliceFeatures]) -> None:
        """The content of slices and of their perturbed copies, all together."""
        encoder, rate_hz = self.content, self._spec.sample_rate_hz
        if encoder is None:
            return
        inputs: list[tuple[tuple[SliceFeatures, bool], Tensor]] = []
        for item in slices:
            if "content" in item.wanted:
                inputs.append(((item, False), item.audio))
            if "variants" in item.wanted and self.perturbation is not None:
                try:
                    copies = list(self.perturbation.variants_of(item.audio, rate_hz, item.id))
                except Exception as error:
                    item.fault = error
                    continue
                inputs += [((item, True), copy) for copy in copies]
        # Sorting keeps copies of one slice, which are equally long, in their order.
        for (item, is_copy), content in _together(
            inputs, lambda audios: encoder.encode_batch(audios, rate_hz)
        ):
            if isinstance(content, Exception):
                item.fault = content
            elif is_copy:
                item.variants.append(content)
            else:
                item.content = content

    def _measure_pitch(self, slices: Sequence[SliceFeatures]) -> None:
        tracker, spec = self.pitch, self._spec
        if tracker is None:
            return
        inputs = [
            (item, item.audio) for item in slices if "f0" in item.wanted and item.fault is None
        ]
        for item, pitch in _together(
            inputs,
            lambda audios: tracker.track_batch(audios, spec.sample_rate_hz, spec.hop_samples),
        ):
            if isinstance(pitch, Exception):
                item.fault = pitch
            else:
                item.pitch = pitch


def _together(
    inputs: Sequence[tuple[Key, Tensor]], extract: Callable[[list[Tensor]], Sequence[Result]]
) -> Iterator[tuple[Key, Result | Exception]]:
    """What `extract` makes of inputs, all at once and by length; one by one where that fails."""
    if not inputs:
        return
    ordered = sorted(inputs, key=lambda entry: len(entry[1]))
    results: Sequence[Result | Exception]
    try:
        results = extract([audio for _, audio in ordered])
        if len(results) != len(ordered):
            raise RuntimeError(f"{len(results)} results for {len(ordered)} pieces")
    except Exception as error:
        if len(ordered) > 1:
            _LOG.debug("%d pieces do not go through together", len(ordered), exc_info=True)
            for entry in ordered:
                yield from _together([entry], extract)
            return
        results = [error]
    for (key, _), result in zip(ordered, results, strict=True):
        yield key, result
