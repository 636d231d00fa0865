"""Whatever a file or an extractor holds: a defined result or a named file, and never NaN."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from store_material import BlockContent, CountedEnergy, CrossingPitch, prepare_small, write_voice
from svc.data.augmentation.content import ContentPerturbation
from svc.data.store import FeatureStore
from svc.features.content.mfcc import MfccContent
from svc.features.energy.rms import RmsEnergy
from svc.features.pitch.base import Pitch
from svc.features.pitch.parselmouth import ParselmouthPitch

RATE_HZ = 44_100
SECOND = np.arange(RATE_HZ)
SIGNALS: dict[str, NDArray[np.floating]] = {
    "constant": np.full(RATE_HZ, 0.7),
    "square": np.where(SECOND % 200 < 100, 1.0, -1.0),
    "click": np.where(SECOND == 20_000, 1.0, 0.0),
    "noise": np.random.default_rng(0).uniform(-1, 1, RATE_HZ),
    "far too loud": 300 * np.sin(2 * np.pi * 220 * SECOND / RATE_HZ),
    "quiet": 1e-3 * np.sin(2 * np.pi * 220 * SECOND / RATE_HZ),
    "half a second": np.sin(2 * np.pi * 220 * SECOND[: RATE_HZ // 2 + 500] / RATE_HZ),
}
UNUSABLE: dict[str, NDArray[np.floating]] = {
    "empty": np.zeros(0),
    "one sample": np.ones(1),
    "silence": np.zeros(RATE_HZ),
    "one nan": np.where(SECOND == 20_000, np.nan, 0.5),
    "one infinity": np.where(SECOND == 20_000, -np.inf, 0.5),
}


def all_finite(store: Path) -> bool:
    paths = [path for path in store.rglob("*.npy") if ".audio." not in path.name]
    return bool(paths) and all(np.isfinite(np.load(path)).all() for path in paths)


def test_real_extractors_on_strange_signals(tmp_path: Path) -> None:
    for name, signal in (SIGNALS | UNUSABLE).items():
        path = tmp_path / "voices" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, signal, RATE_HZ, subtype="FLOAT")
    report = prepare_small(
        tmp_path / "voices",
        tmp_path / "store",
        content=MfccContent,
        pitch=ParselmouthPitch,
        energy=RmsEnergy,
        store_mel=True,
        perturbation=partial(ContentPerturbation, variants=1, reverb_probability=0.0),
    )
    assert {file.name for file in report.skipped} == {f"{name}.wav" for name in UNUSABLE}
    assert all(file.reason for file in report.skipped)
    store = FeatureStore.open(tmp_path / "store")
    assert {record.source for record in store.slices} == {f"{name}.wav" for name in SIGNALS}
    assert all_finite(tmp_path / "store")


def bad_where_loud(values: Tensor, audio: Tensor, bad: float) -> Tensor:
    values = values.clone()
    if float(audio.abs().max()) > 0.8:
        values.view(-1)[-1] = bad
    return values


class BadContent(BlockContent):
    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        # Not infinite, but too large for half precision.
        return bad_where_loud(super().encode(audio, sample_rate_hz), audio, 70_000.0)


class BadPitch(CrossingPitch):
    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        pitch = super().track(audio, sample_rate_hz, hop_samples)
        return Pitch(bad_where_loud(pitch.f0_hz, audio, torch.inf), pitch.voiced)


class BadEnergy(CountedEnergy):
    def measure(self, audio: Tensor, hop_samples: int) -> Tensor:
        return bad_where_loud(super().measure(audio, hop_samples), audio, torch.nan)


class ShortPitch(CrossingPitch):
    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        pitch = super().track(audio, sample_rate_hz, hop_samples)
        cut = slice(None, -1 if float(audio.abs().max()) > 0.8 else None)
        return Pitch(pitch.f0_hz[cut], pitch.voiced[cut])


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"content": BadContent}, "content holds NaN or numbers too large"),
        ({"pitch": BadPitch}, "f0 holds NaN or numbers too large"),
        ({"energy": BadEnergy}, "energy holds NaN or numbers too large"),
        ({"pitch": ShortPitch}, "frames where"),
    ],
    ids=["content", "pitch", "energy", "frames"],
)
@pytest.mark.parametrize("batch_s", [None, 120.0])
def test_what_an_extractor_should_not_give_is_never_written(
    part: dict[str, object], reason: str, batch_s: float | None, tmp_path: Path
) -> None:
    write_voice(tmp_path / "voices" / "fine.wav", 2.0, seed=1)
    write_voice(tmp_path / "voices" / "loud.wav", 2.0, seed=2, peak=0.9)
    report = prepare_small(tmp_path / "voices", tmp_path / "store", batch_s=batch_s, **part)
    (skipped,) = report.skipped
    assert skipped.name == "loud.wav"
    assert reason in skipped.reason
    assert "in the slice at 0.0 s" in skipped.reason
    assert all_finite(tmp_path / "store")
    assert not list((tmp_path / "store").rglob("loud*.npy"))
