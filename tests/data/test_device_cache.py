"""A training set on the training device gives the very crops that its files give."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.recorder import Recorder, trainer
from store_material import SPEC, prepare_small, write_dataset, write_voice
from svc.data import cache as cache_module
from svc.data import readers
from svc.data.augmentation.content import ContentPerturbation
from svc.data.augmentation.parameters import (
    Augmentation,
    KeyShift,
    Loudness,
    PerturbedContent,
    SampleAugmentation,
    TimeStretch,
)
from svc.data.batch import Batch, CropPlaces
from svc.data.cache import Cache, TrainingSet, place_for
from svc.data.crop_reader import CropReader
from svc.data.data_module import SvcDataModule
from svc.data.device_cache import DeviceCache
from svc.data.sampling import Crop
from svc.data.slice_arrays import CropParts, SliceArrays
from svc.data.store import FeatureStore
from svc.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
GAINS = Augmentation(loudness=Loudness(0.7, -20.0, 40.0), perturbed_content=PerturbedContent(0.5))


def prepared(folder: Path, **changes: Any) -> FeatureStore:
    write_dataset(folder / "source")
    write_voice(folder / "source" / "anna" / "short.wav", 0.55, seed=3)
    prepare_small(folder / "source", folder / "store", **changes)
    return FeatureStore.open(folder / "store")


@pytest.fixture(scope="module", params=[False, True], ids=["mel made", "mel stored"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return prepared(tmp_path_factory.mktemp("device"), store_mel=request.param)


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("variants")
    return prepared(folder, perturbation=partial(ContentPerturbation, variants=2))


def data_module(store: FeatureStore, **changes: Any) -> SvcDataModule:
    arguments = {"spec": SPEC, "batch_size": 8, "crop_frames": 16, "seed": 3, "workers": 0}
    return SvcDataModule(store, **{**arguments, **changes})


def device_cache(store: FeatureStore) -> DeviceCache:
    parts = CropParts.of(store, SPEC, None, kept=True)
    arrays = SliceArrays(store, store.slices, SPEC, parts)
    return DeviceCache(arrays, store, store.slices, SPEC, CPU)


def assert_same(one: Batch, other: Batch) -> None:
    for field in dataclasses.fields(Batch):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), field.name
        # Mels of whole slices may round otherwise than those of crops.
        tolerance = 1e-5 if field.name == "mel" else 0
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=0, msg=field.name)
        assert mine.is_contiguous(), field.name


def assert_same_epoch(store: FeatureStore, **changes: Any) -> SvcDataModule:
    files, device = (data_module(store, cache=cache, **changes) for cache in ("none", "device"))
    batches = list(device.train_dataloader())
    assert len(batches) == len(files.train_dataloader()) > 1
    for one, other in zip(files.train_dataloader(), batches, strict=True):
        assert isinstance(other, CropPlaces)
        assert_same(files.to_batch(one), device.to_batch(other))
    return device


def test_crops_are_those_of_the_files(store: FeatureStore) -> None:
    module = assert_same_epoch(store)
    for one, other in zip(
        data_module(store).val_dataloader(), module.val_dataloader(), strict=True
    ):
        assert_same(module.to_batch(one), module.to_batch(other))


def test_crops_longer_than_their_slices_are_padded_alike(store: FeatureStore) -> None:
    shortest = min(record.frames for record in store.split("train"))
    longest = max(record.frames for record in store.split("train"))
    assert_same_epoch(store, crop_frames=(shortest + longest) // 2, batch_size=3)


def test_any_place_of_a_slice(store: FeatureStore) -> None:
    """At both ends too, where audio is mirrored, or the crop runs out of it."""
    reader = CropReader(store, store.slices, SPEC)
    cache = device_cache(store)
    module = data_module(store)
    crops = [
        Crop(index, first, 20)
        for index, record in enumerate(store.slices)
        for first in (0, 1, 2, record.frames // 2, *range(record.frames - 22, record.frames))
    ]
    batch = module.to_batch(cache.crops_at(cache.read(crops)))
    assert_same(module.to_batch(reader.read(crops)), batch)
    assert batch.lengths_frames.min() == 1


def test_gains_and_perturbed_content(variants: FeatureStore) -> None:
    module = assert_same_epoch(variants, augmentation=GAINS)
    plain = data_module(variants)
    changed = module.to_batch(module.crops(8)).content != plain.to_batch(plain.crops(8)).content
    assert changed.any(-1).any(-1).tolist() != [False] * 8


def test_order_and_position_are_those_of_the_files(store: FeatureStore) -> None:
    files, device = data_module(store), data_module(store, cache="device")
    for module in (files, device):
        module.set_position(files.batches_per_epoch + 2)
    pairs = zip(files.train_dataloader(), device.train_dataloader(), strict=True)
    for one, other in pairs:
        assert_same(files.to_batch(one), device.to_batch(other))


@pytest.mark.parametrize("perturbed", [False, True])
def test_its_size_is_known_beforehand(
    store: FeatureStore, variants: FeatureStore, perturbed: bool
) -> None:
    some, augmentation = (variants, GAINS) if perturbed else (store, None)
    train = some.split("train")
    parts = CropParts.of(some, SPEC, augmentation, kept=True)
    arrays = SliceArrays(some, train, SPEC, parts, in_ram=True)
    cache = DeviceCache(arrays, some, train, SPEC, CPU)
    tensors = [value for value in vars(cache).values() if isinstance(value, torch.Tensor)]
    held = sum(tensor.nbytes for tensor in tensors)
    tables = cache._slices.nbytes + cache._full_scale.nbytes
    training_set = TrainingSet.of(parts, some, train, SPEC, augmentation, workers=0)
    assert training_set.device_bytes == held - tables
    in_ram = sum(
        np.asarray(arrays.get(index, name)).nbytes
        for index in range(len(train))
        for name in parts.features
    )
    assert training_set.ram_bytes == in_ram
    assert tables < 100 * len(train)


@pytest.mark.parametrize(
    ("augmentation", "words"),
    [
        (Augmentation(KeyShift(0.5)), r"key_shift.probability=0.5 .*data.cache=ram"),
        (Augmentation(time_stretch=TimeStretch(0.1)), r"time_stretch.probability=0.1"),
    ],
)
def test_what_resamples_audio_is_refused(
    store: FeatureStore, augmentation: Augmentation, words: str
) -> None:
    module = data_module(store, cache="device", augmentation=augmentation)
    with pytest.raises(UserError, match=words):
        module.train_dataloader()
    for sample in (SampleAugmentation(key_shift_semitones=1.0), SampleAugmentation(rate=0.8)):
        with pytest.raises(ValueError, match=r"speed|kept mels"):
            device_cache(store).read([Crop(0, 0, 16)], [sample])


def test_kept_mels_are_never_paired_with_changed_audio(store: FeatureStore) -> None:
    with pytest.raises(ValueError, match="kept mels"):
        device_cache(store).read([Crop(0, 0, 16)], [SampleAugmentation(gain_db=1.0)])


@pytest.mark.parametrize("place", ["ram", "device"])
def test_mels_are_made_once(store: FeatureStore, place: Cache) -> None:
    """Not for every batch, unless gains change the sound."""
    module = data_module(store, cache=place)
    loaded = next(iter(module.train_dataloader()))
    if isinstance(loaded, CropPlaces):
        assert module._on_device is not None
        loaded = module._on_device.crops_at(loaded)
    assert loaded.mel is not None
    assert loaded.margin_frames == 0
    louder = data_module(store, cache="ram", augmentation=Augmentation(loudness=Loudness(0.5)))
    assert next(iter(louder.train_dataloader())).mel is None


def training_set(mb: int, **changes: Any) -> TrainingSet:
    arguments: dict[str, Any] = {"augmentation": None, "workers": 2}
    return TrainingSet(mb * 10**6, mb * 10**6, **{**arguments, **changes})


def with_free(monkeypatch: pytest.MonkeyPatch, gpu_mb: int, cpu_mb: int | None) -> None:
    free = {"cuda": gpu_mb * 10**6, "cpu": None if cpu_mb is None else cpu_mb * 10**6}
    monkeypatch.setattr(cache_module, "free_bytes", lambda device: free[device.type])
    monkeypatch.setattr(cache_module.multiprocessing, "get_start_method", lambda: "fork")


def test_a_set_that_does_not_fit_is_refused_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, gpu_mb=2000, cpu_mb=4000)
    assert place_for("device", training_set(1800), GPU) == "device"
    with pytest.raises(UserError, match=r"needs 1.68 GiB, and 1.86 GiB .* of cuda:0 .*10%.*ram"):
        place_for("device", training_set(1801), GPU)
    with pytest.raises(UserError, match=r"needs 3.73 GiB"):  # each process keeps its own
        place_for("device", training_set(2000), CPU, sharers=2)
    with pytest.raises(UserError, match="CUDA devices and CPUs"):
        place_for("device", training_set(1), torch.device("mps"))


def test_a_device_that_has_no_room_after_all_is_explained(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(readers, "DeviceCache", full)
    with pytest.raises(UserError, match=r"data.cache=device: cpu .*allocate 2 GiB.*data.cache=ram"):
        data_module(store, cache="device").train_dataloader()


def test_auto_takes_the_best_place_that_is_comfortable(monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, gpu_mb=8000, cpu_mb=16_000)
    assert place_for("auto", training_set(1000), GPU) == "device"
    assert place_for("auto", training_set(1001), GPU) == "ram"
    assert place_for("auto", training_set(2000), CPU) == "device"
    assert place_for("auto", training_set(2001), CPU) == "none"
    assert place_for("auto", training_set(1000), CPU, sharers=2) == "device"
    assert place_for("auto", training_set(1001), CPU, sharers=2) == "none"
    shifted = training_set(10, augmentation=Augmentation(KeyShift(0.5)))
    assert place_for("auto", shifted, GPU) == "ram"
    louder = training_set(10, augmentation=Augmentation(loudness=Loudness(0.5)))
    assert place_for("auto", louder, GPU) == "device"
    with_free(monkeypatch, gpu_mb=0, cpu_mb=None)
    assert place_for("auto", training_set(1), GPU) == "none"
    assert place_for("auto", training_set(1), CPU) == "none"


def test_auto_sends_no_copies_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, gpu_mb=0, cpu_mb=16_000)
    monkeypatch.setattr(cache_module.multiprocessing, "get_start_method", lambda: "spawn")
    assert place_for("auto", training_set(1), GPU) == "none"
    assert place_for("auto", training_set(1, workers=0), GPU) == "ram"


def test_a_trainer_sees_the_same_batches(store: FeatureStore, tmp_path: Path) -> None:
    seen = []
    for cache in ("none", "device"):
        recorder = Recorder()
        module = data_module(store, cache=cache)
        trainer(tmp_path, 10, limit_val_batches=0).fit(recorder, datamodule=module)
        seen.append(recorder.seen)
    assert len(seen[0]) == 10
    for one, other in zip(*seen, strict=True):
        assert_same(one, other)
