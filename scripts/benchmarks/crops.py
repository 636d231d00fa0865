"""Crops per second from the feature store, and its size."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.figures import Options, Section, figure
from benchmarks.machine import best_seconds
from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.augmentation.parameters import (
    Augmentation,
    AugmentationDraw,
    KeyShift,
    Loudness,
    TimeStretch,
)
from svc.data.batch import CropPlaces
from svc.data.cache import Place
from svc.data.crop_reader import CropReader
from svc.data.dataset import CropDataset
from svc.data.demo.source import DemoSource
from svc.data.device_cache import DeviceCache
from svc.data.preparation import prepare
from svc.data.sampling import CropDraw
from svc.data.slice_arrays import CropParts, SliceArrays
from svc.data.store import FeatureStore
from svc.features.content.base import ContentEncoder, FrameGrid
from svc.features.energy.rms import RmsEnergy
from svc.features.pitch.parselmouth import ParselmouthPitch

CROP_FRAMES, BATCH_SIZE, BATCHES = 32, 32, 50
CROPS_TARGET, SIZE_TARGET_MB = 7500.0, 7.5

_PLACES: dict[Place, str] = {
    "none": "files, warm cache",
    "ram": "RAM",
    "device": "a set on the device (here the CPU)",
}
_AUGMENTATIONS = {
    "all with a gain": Augmentation(loudness=Loudness(probability=1.0)),
    "all in another key": Augmentation(key_shift=KeyShift(probability=1.0)),
    "all stretched": Augmentation(time_stretch=TimeStretch(probability=1.0)),
    "augmentation=online": Augmentation(KeyShift(0.5), Loudness(0.5), TimeStretch(0.1)),
}


class RandomContent(ContentEncoder):
    """As wide and as frequent as HuBERT-soft, and without meaning."""

    channels = 256
    grid = FrameGrid(step_s=0.02, first_s=0.0125)

    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """As `ContentEncoder.encode`."""
        frames = max(1, round(len(audio) / sample_rate_hz / self.grid.step_s))
        return torch.randn(self.channels, frames, generator=torch.Generator().manual_seed(frames))


def measure(options: Options) -> Section:
    """With and without stored mels, from the files and from memory."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        source = DemoSource(
            Path(folder, "voices"), singers=2, minutes_per_singer=options.audio_minutes / 2
        )
        for store_mel in (False, True):
            store = _store(source, Path(folder, f"store_{store_mel}"), store_mel)
            mels = "stored mels" if store_mel else "without mels"
            for place, name in _PLACES.items():
                rate = _crops_per_s(store, place, options.repeats)
                name = f"crops from {name}, {mels}"
                figures.append(figure(name, rate, "crops/s", at_least=CROPS_TARGET))
            if not store_mel:
                rate = _crops_per_s(store, "none", options.repeats, MelSpectrogram(AudioSpec()))
                figures.append(figure("crops from files, mels made on one core", rate, "crops/s"))
                for name, augmentation in _AUGMENTATIONS.items():
                    rate = _crops_per_s(store, "none", options.repeats, augmentation=augmentation)
                    figures.append(figure(f"crops from files, {name}", rate, "crops/s"))
            target = None if store_mel else SIZE_TARGET_MB
            size = _mb_per_minute(store)
            kept = "with mels" if store_mel else "without mels"
            figures.append(figure(f"store {kept}", size, "MB per minute", at_most=target))
    return {
        "settings": f"{CROP_FRAMES} frames, batches of {BATCH_SIZE}, one process with one torch "
        f"thread, as in a loading worker; {options.audio_minutes:g} minutes of synthetic singing "
        f"with 256-channel content at 50 Hz. Mels are read where they are stored. Else those of "
        f"crops from files are made later on the training device, which is measured beside it, and "
        f"memory keeps the mels of whole slices.",
        "figures": figures,
    }


def _store(source: DemoSource, folder: Path, store_mel: bool) -> FeatureStore:
    prepare(
        source,
        folder,
        spec=AudioSpec(),
        content=RandomContent,
        pitch=ParselmouthPitch,
        energy=RmsEnergy,
        store_mel=store_mel,
        workers=1,
        progress=False,
    )
    return FeatureStore.open(folder)


def _crops_per_s(
    store: FeatureStore,
    place: Place,
    repeats: int,
    mel: MelSpectrogram | None = None,
    augmentation: Augmentation | None = None,
) -> float:
    slices = store.split("train")
    spec, cpu = AudioSpec(), torch.device("cpu")
    reader = CropReader(store, slices, spec, place == "ram", augmentation)
    device = None
    if place == "device":
        arrays = SliceArrays(
            store, slices, spec, CropParts.of(store, spec, augmentation, kept=True)
        )
        device = DeviceCache(arrays, store, slices, spec, cpu)
    draw = CropDraw(slices, CROP_FRAMES, seed=0)
    changes = AugmentationDraw(augmentation, seed=0) if augmentation else None
    crops = CropDataset(device or reader, draw, changes)

    def read() -> None:
        for batch in range(BATCHES):
            loaded = crops.__getitems__(range(batch * BATCH_SIZE, (batch + 1) * BATCH_SIZE))
            if device is not None and isinstance(loaded, CropPlaces):
                loaded = device.crops_at(loaded)
            if mel is not None:
                loaded.batch(mel)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return BATCH_SIZE * BATCHES / best_seconds(read, repeats)
    finally:
        torch.set_num_threads(threads)


def _mb_per_minute(store: FeatureStore) -> float:
    """Every file of the store, its records too."""
    size = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    return size / 1e6 / (sum(record.duration_s for record in store.slices) / 60)
