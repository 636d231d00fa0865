"""What a recording sings: content, pitch and energy on the mel's frames."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.features.content.base import ContentEncoder
from svc.features.energy.base import EnergyExtractor
from svc.features.interpolation import to_mel_grid
from svc.features.pitch.base import PitchTracker
from svc.inference.chunking import plan_chunks

MAX_WINDOW_S = 120.0
"""Longest piece analysed at once. Long, because trackers and normalisation judge a frame by its
surroundings; bounded, because their memory grows with it, by 7 MB per second."""


@dataclass(frozen=True)
class Analysis:
    """Everything that is taken from the source recording, on the CPU."""

    content: Tensor
    """[C, N] float32."""
    f0_hz: Tensor
    """[N] float32, interpolated through unvoiced frames."""
    voiced: Tensor
    """[N] bool."""
    energy: Tensor
    """[N] float32, linear RMS."""


@dataclass(frozen=True)
class Extractors:
    """The parts that analyse a recording; the settings are those of the training data."""

    content: ContentEncoder
    pitch: PitchTracker
    energy: EnergyExtractor

    def analyse(
        self,
        audio: Tensor,
        spec: AudioSpec,
        progress: Callable[[float], None] | None = None,
        max_window_s: float = MAX_WINDOW_S,
    ) -> Analysis:
        """Analyse a recording of any length.

        Args:
            audio: [T] float32 on the CPU, T = N * hop_samples.
            progress: told the finished share, 0 to 1, now and then.
            max_window_s: longest piece analysed at once; longer recordings are cut at their
                quietest places.
        """
        windows = plan_chunks(audio, spec, max_chunk_s=max_window_s, overlap_s=0.0)
        parts = []
        for window in windows:
            span = slice(window.start_frame, window.stop_frame)
            piece = audio[span.start * spec.hop_samples : span.stop * spec.hop_samples]
            parts.append(self._analyse_window(piece, spec))
            if progress is not None:
                progress(window.stop_frame / windows[-1].stop_frame)
        return Analysis(
            content=torch.cat([part.content for part in parts], dim=1),
            f0_hz=torch.cat([part.f0_hz for part in parts]),
            voiced=torch.cat([part.voiced for part in parts]),
            energy=torch.cat([part.energy for part in parts]),
        )

    def _analyse_window(self, audio: Tensor, spec: AudioSpec) -> Analysis:
        frames = spec.frames(len(audio))
        content = self.content.encode(audio, spec.sample_rate_hz)
        pitch = self.pitch.track(audio, spec.sample_rate_hz, spec.hop_samples)
        return Analysis(
            content=to_mel_grid(content, self.content.grid, spec, frames).cpu(),
            f0_hz=pitch.f0_hz.cpu(),
            voiced=pitch.voiced.cpu(),
            energy=self.energy.measure(audio, spec.hop_samples).cpu(),
        )
