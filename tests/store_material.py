"""Small recordings and countable extractors for the tests of preparation and crops."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.data.preparation import prepare
from svc.data.report import PreparationReport
from svc.data.sources import FolderSource
from svc.features.content.base import ContentEncoder, FrameGrid
from svc.features.energy.rms import RmsEnergy
from svc.features.pitch.base import Pitch, PitchTracker

SPEC = AudioSpec()
CALLS: Counter[str] = Counter()
"""How often each extractor of this process was asked."""


class BlockContent(ContentEncoder):
    """Mean magnitude and mean of blocks of 20 ms, and the block's number: 3 channels at 50 Hz."""

    channels = 3
    grid = FrameGrid(step_s=0.02, first_s=0.01)

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale

    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        CALLS["content"] += 1
        samples = round(self.grid.step_s * sample_rate_hz)
        count = max(len(audio) // samples, 1)
        blocks = torch.nn.functional.pad(audio, (0, samples))[: count * samples].view(count, -1)
        number = torch.arange(count, dtype=torch.float32)
        return torch.stack([blocks.abs().mean(1), blocks.mean(1), number]) * self._scale


class CrossingPitch(PitchTracker):
    """F0 by counting upward zero crossings in each frame; needs nothing, is exact for nobody."""

    def __init__(self, f0_min_hz: float = 40.0, f0_max_hz: float = 1600.0) -> None:
        self.f0_min_hz, self.f0_max_hz = f0_min_hz, f0_max_hz

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        CALLS["f0"] += 1
        frames = len(audio) // hop_samples
        grid = audio[: frames * hop_samples].view(frames, hop_samples)
        crossings = ((grid[:, :-1] < 0) & (grid[:, 1:] >= 0)).sum(1)
        f0_hz = (crossings * sample_rate_hz / hop_samples).clamp(self.f0_min_hz, self.f0_max_hz)
        return Pitch(f0_hz.float(), grid.abs().amax(1) > 0.05)


class CountedEnergy(RmsEnergy):
    """RMS, counted."""

    def measure(self, audio: Tensor, hop_samples: int) -> Tensor:
        CALLS["energy"] += 1
        return super().measure(audio, hop_samples)


def write_voice(path: Path, seconds: float, seed: int, peak: float = 0.5) -> None:
    """A gliding tone with pauses and a little noise, as a 16-bit WAV or float where it is loud."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 44_100)) / 44_100
    frequency = 150 + 50 * (seed % 5) + 40 * np.sin(2 * np.pi * 0.3 * time)
    loudness = 0.2 + 0.8 * np.clip(np.sin(2 * np.pi * time / 2.5), 0, 1)
    audio = loudness * np.sin(2 * np.pi * np.cumsum(frequency) / 44_100)
    audio = peak * (audio + 0.01 * rng.standard_normal(len(time)))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, 44_100, subtype="FLOAT" if peak > 1 else "PCM_16")


def write_dataset(folder: Path, files: int = 3, seconds: float = 3.5) -> Path:
    """Two speakers with `files` recordings each."""
    for speaker in ("anna", "bert"):
        for number in range(files):
            seed = number + 10 * (speaker == "bert")
            write_voice(folder / speaker / f"{number}.wav", seconds + 0.3 * number, seed)
    return folder


def prepare_small(source: Path, store: Path, **changes: Any) -> PreparationReport:
    """Prepare with the extractors of this module, in this process."""
    arguments: dict[str, Any] = {
        "spec": SPEC,
        "content": BlockContent,
        "pitch": partial(CrossingPitch, f0_min_hz=60.0),
        "energy": CountedEnergy,
        "workers": 1,
        "progress": False,
    }
    return prepare(FolderSource(source), store, **{**arguments, **changes})


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, but for the lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
