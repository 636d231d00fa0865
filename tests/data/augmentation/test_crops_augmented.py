"""Augmented crops are a matter of the seed, and everything in one still belongs together."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from store_material import SPEC, prepare_small, write_dataset
from svc.audio.mel import MelSpectrogram
from svc.data.augmentation.content import ContentPerturbation
from svc.data.augmentation.parameters import (
    Augmentation,
    AugmentationDraw,
    KeyShift,
    Loudness,
    PerturbedContent,
    SampleAugmentation,
    TimeStretch,
)
from svc.data.augmentation.time_stretch import REACH_SAMPLES
from svc.data.batch import Batch, LoadedCrops
from svc.data.crop_reader import CropReader
from svc.data.data_module import SvcDataModule
from svc.data.sampling import Crop, CropDraw
from svc.data.store import FeatureStore
from svc.errors import UserError
from svc.features.energy.rms import RmsEnergy

HOP = SPEC.hop_samples
MEL = MelSpectrogram(SPEC)

ALL = Augmentation(KeyShift(0.5), Loudness(0.5), TimeStretch(0.3), PerturbedContent(0.5))
STRAYS = REACH_SAMPLES + 0.25 * 512
ONLINE = dataclasses.replace(ALL, perturbed_content=PerturbedContent())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("augmented")
    write_dataset(folder / "source")
    perturbation = partial(ContentPerturbation, variants=2)
    prepare_small(folder / "source", folder / "store", perturbation=perturbation)
    return FeatureStore.open(folder / "store")


@pytest.fixture(scope="module")
def with_mels(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("mels")
    write_dataset(folder / "source", files=2)
    prepare_small(folder / "source", folder / "store", store_mel=True)
    return FeatureStore.open(folder / "store")


def sound_store(folder: Path, audio: np.ndarray) -> FeatureStore:
    """A store of one slice."""
    (folder / "anna").mkdir()
    soundfile.write(folder / "anna" / "sound.wav", audio, 44_100)
    prepare_small(folder / "anna", folder / "store")
    store = FeatureStore.open(folder / "store")
    assert len(store.slices) == 1
    assert store.slices[0].start_sample == 0
    return store


def read(store: FeatureStore, crop: Crop, sample: SampleAugmentation) -> Batch:
    reader = CropReader(store, store.slices, SPEC, augmentation=ALL)
    return reader.read([crop], [sample]).batch(MEL)


def fields(crops: LoadedCrops | Batch) -> Iterator[tuple[str, Any]]:
    return ((f.name, getattr(crops, f.name)) for f in dataclasses.fields(crops))


def assert_same(one: LoadedCrops | Batch, other: LoadedCrops | Batch) -> None:
    for (name, mine), (_, theirs) in zip(fields(one), fields(other), strict=True):
        if isinstance(mine, torch.Tensor):
            assert torch.equal(mine, theirs), name
        else:
            assert mine == theirs, name


def data_module(store: FeatureStore, **changes: Any) -> SvcDataModule:
    arguments = {"spec": SPEC, "batch_size": 8, "crop_frames": 16, "seed": 3, "workers": 0}
    return SvcDataModule(store, **{"augmentation": ALL, **arguments, **changes})


def samples_of(module: SvcDataModule) -> list[dict[str, torch.Tensor]]:
    """Every training sample of an epoch by itself."""
    found = []
    for loaded in module.train_dataloader():
        tensors = {name: v for name, v in fields(loaded) if isinstance(v, torch.Tensor)}
        for row in range(len(loaded.speaker)):
            found.append({name: tensor[row] for name, tensor in tensors.items()})
    return found


def test_same_seed_same_data_whatever_the_loading(store: FeatureStore) -> None:
    plain = samples_of(data_module(store))
    for changes in ({"workers": 2}, {"cache": "ram"}, {"batch_size": 3}):
        for one, other in zip(plain, samples_of(data_module(store, **changes)), strict=False):
            for name in one:
                assert torch.equal(one[name], other[name]), (changes, name)
    others = samples_of(data_module(store, seed=4))
    assert not torch.equal(plain[0]["waveform"], others[0]["waveform"])
    assert len({float(sample["key_shift_semitones"]) for sample in plain}) > 5


def test_same_data_from_any_position(store: FeatureStore) -> None:
    whole = list(data_module(store).train_dataloader())
    resumed = data_module(store)
    resumed.set_position(3)
    for one, other in zip(whole[3:], resumed.train_dataloader(), strict=True):
        assert_same(one, other)


def test_draws_are_a_function_of_seed_and_number() -> None:
    draw = AugmentationDraw(ALL, seed=7, content_variants=3)
    together = draw.samples(0, 60)
    assert [draw.samples(number, 1)[0] for number in range(60)] == together
    assert draw.samples(17, 9) == together[17:26]
    assert AugmentationDraw(ALL, seed=8, content_variants=3).samples(0, 60) != together


def test_draws_keep_probabilities_and_ranges() -> None:
    drawn = AugmentationDraw(ALL, seed=0, content_variants=3).samples(0, 4000)
    shifts = np.array([sample.key_shift_semitones for sample in drawn])
    gains_db = np.array([sample.gain_db for sample in drawn])
    rates = np.array([sample.rate for sample in drawn])
    variants = np.array([sample.content_variant for sample in drawn])
    assert np.mean(shifts != 0) == pytest.approx(0.5, abs=0.03)
    assert np.mean(gains_db != 0) == pytest.approx(0.5, abs=0.03)
    assert np.mean(rates != 1) == pytest.approx(0.3, abs=0.03)
    assert np.mean(variants != 0) == pytest.approx(0.5, abs=0.03)
    for values, low, high in ((shifts, -5, 5), (gains_db, -12, 6), (rates, 0.8, 1.25)):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
    assert np.bincount(variants, minlength=4)[1:].min() > 560
    assert abs(np.corrcoef(shifts, gains_db)[0, 1]) < 0.05


def test_one_kind_does_not_change_the_draws_of_another() -> None:
    everything = AugmentationDraw(ALL, 5, 2).samples(0, 50)
    alone = AugmentationDraw(Augmentation(loudness=Loudness(0.5)), 5).samples(0, 50)
    assert [sample.gain_db for sample in alone] == [sample.gain_db for sample in everything]


def test_probability_zero_changes_nothing(store: FeatureStore, with_mels: FeatureStore) -> None:
    for some in (store, with_mels):
        without = list(data_module(some, augmentation=None).train_dataloader())
        zero = list(data_module(some, augmentation=Augmentation()).train_dataloader())
        for one, other in zip(without, zero, strict=True):
            assert_same(one, other)
            assert not one.key_shift_semitones.any()


def test_validation_is_untouched(store: FeatureStore) -> None:
    plain = list(data_module(store, augmentation=None).val_dataloader())
    augmented = list(data_module(store).val_dataloader())
    assert len(plain) == 1
    for one, other in zip(plain, augmented, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("gain_db", [-12.0, 3.5])
@pytest.mark.parametrize("stored", [False, True], ids=["mel made", "mel stored"])
def test_gain_is_exact_on_audio_energy_and_mel(
    store: FeatureStore, with_mels: FeatureStore, stored: bool, gain_db: float
) -> None:
    some, crop = (with_mels if stored else store), Crop(0, 30, 24)
    plain = read(some, crop, SampleAugmentation())
    louder = read(some, crop, SampleAugmentation(gain_db=gain_db))
    gain = 10 ** (gain_db / 20)
    torch.testing.assert_close(louder.audio, plain.audio * gain)
    torch.testing.assert_close(louder.energy, plain.energy * gain)
    loud = plain.mel > -6  # well above the floor
    assert loud.float().mean() > 0.1
    difference_db = (louder.mel - plain.mel)[loud] * 20 / np.log(10)
    torch.testing.assert_close(
        difference_db, torch.full_like(difference_db, gain_db), atol=0.01, rtol=0
    )
    assert torch.equal(louder.f0_hz, plain.f0_hz)
    assert torch.equal(louder.content, plain.content)


def test_gain_stops_at_full_scale(store: FeatureStore) -> None:
    crop = Crop(0, 30, 24)
    plain = read(store, crop, SampleAugmentation())
    loudest = read(store, crop, SampleAugmentation(gain_db=40.0))
    assert 0.98 < loudest.audio.abs().max() <= 1.0
    gain = loudest.energy[0, 5] / plain.energy[0, 5]
    torch.testing.assert_close(loudest.energy, plain.energy * gain)
    torch.testing.assert_close(loudest.audio, plain.audio * gain)


@pytest.mark.parametrize("semitones", [-5.0, 2.5, 5.0])
@pytest.mark.parametrize("rate", [1.0, 0.8])
def test_a_sine_moves_by_its_interval_everywhere(
    tmp_path: Path, semitones: float, rate: float
) -> None:
    """In audio, F0 and mel alike; the tempo of a stretch leaves it alone."""
    frequency_hz = 44_100 / HOP * 8  # eight periods in a frame: what CrossingPitch counts exactly
    time_s = np.arange(4 * 44_100) / 44_100
    store = sound_store(tmp_path, 0.5 * np.sin(2 * np.pi * frequency_hz * time_s + 1))
    sample = SampleAugmentation(key_shift_semitones=semitones, rate=rate)
    plain = read(store, Crop(0, 60, 40), SampleAugmentation())
    moved = read(store, Crop(0, 60, 40), sample)
    expected_hz = frequency_hz * 2 ** (semitones / 12)

    audio = moved.audio[0, 0].numpy()
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 2**19))
    assert spectrum.argmax() * 44_100 / 2**19 == pytest.approx(expected_hz, rel=1e-3)
    stored_hz = float(plain.f0_hz[0].mean())
    assert stored_hz == pytest.approx(frequency_hz, rel=0.02)
    torch.testing.assert_close(moved.f0_hz, plain.f0_hz * 2 ** (semitones / 12), rtol=0.03, atol=0)
    exact = torch.from_numpy(np.sin(2 * np.pi * expected_hz * time_s[: 60 * HOP])).float()
    strongest = int(MEL(exact)[:, 30].argmax())
    assert moved.mel[0].argmax(0).tolist() == [strongest] * 40
    assert moved.key_shift_semitones.tolist() == [np.float32(semitones)]
    assert moved.voiced.all()


@pytest.mark.parametrize(
    ("semitones", "rate", "within_samples"),
    [(-5.0, 1.0, 2), (3.3, 1.0, 2), (5.0, 1.0, 2), (0.0, 0.8, STRAYS), (0.0, 1.25, STRAYS)],
)
def test_everything_in_a_crop_stays_aligned(
    tmp_path: Path, semitones: float, rate: float, within_samples: int
) -> None:
    """A click in the middle of a frame turns up where its frame went, in every feature."""
    audio = 0.003 * np.random.default_rng(0).standard_normal(4 * 44_100)
    clicks = np.arange(20, 330, 25)
    for offset in range(-40, 40):  # long enough to survive a band limit
        audio[clicks * HOP + HOP // 2 + offset] = 0.8 * np.cos(np.pi * offset / 80) ** 2
    store = sound_store(tmp_path, audio)
    sample = SampleAugmentation(key_shift_semitones=semitones, rate=rate)
    for first in (40, 47, 100):
        batch = read(store, Crop(0, first, 60), sample)
        places = (clicks * HOP + HOP / 2 - first * HOP) / sample.speed
        places = places[(places > 4 * HOP) & (places < 56 * HOP)]
        assert len(places) >= 1
        sounding = batch.audio[0, 0].abs().numpy()
        for place in places:
            around = slice(int(place) - 1200, int(place) + 1200)
            assert around.start + int(sounding[around].argmax()) == pytest.approx(
                place, abs=within_samples
            )
            frame = place / HOP - 0.5
            near = slice(max(round(frame) - 4, 0), round(frame) + 5)
            off = 1.01 if rate == 1 else 2.01
            assert abs(int(batch.energy[0, near].argmax()) + near.start - frame) < 1.01
            assert abs(int(batch.mel[0, :, near].mean(0).argmax()) + near.start - frame) < off
            level = batch.content[0, near, 0]
            assert abs(int(level.argmax()) + near.start - frame) < 2.01  # 20 ms blocks
        centres = first + (np.arange(60) + 0.5) * sample.speed  # in frames of the slice
        voiced = np.load(store.path(store.slices[0], "f0")) > 0
        assert np.array_equal(batch.voiced[0].numpy(), voiced[np.rint(centres - 0.5).astype(int)])
        # The third channel of BlockContent counts its blocks: where in the slice a frame is from.
        number = batch.content[0, :, 2].double().numpy()
        np.testing.assert_allclose(number, centres * HOP / 44_100 / 0.02 - 0.5, atol=1e-3)


def test_energy_is_nearly_that_of_the_shifted_audio(store: FeatureStore) -> None:
    sample = SampleAugmentation(key_shift_semitones=4.0, gain_db=-3.0)
    batch = read(store, Crop(0, 60, 48), sample)
    measured = RmsEnergy().measure(batch.audio[0, 0], HOP)[4:-4]
    difference_db = 20 * (batch.energy[0, 4:-4] / measured).log10()
    assert difference_db.abs().max() < 0.7


@pytest.mark.parametrize("semitones", [-5.0, 5.0])
def test_mel_of_a_shifted_crop_is_that_of_its_audio(store: FeatureStore, semitones: float) -> None:
    """The surroundings are shifted too: a longer crop's mel agrees within."""
    sample = SampleAugmentation(key_shift_semitones=semitones)
    short = read(store, Crop(0, 60, 24), sample)
    long = read(store, Crop(0, 60, 60), sample)
    torch.testing.assert_close(short.audio, long.audio[..., : 24 * HOP], atol=1e-5, rtol=0)
    torch.testing.assert_close(short.mel, long.mel[..., :24], atol=0.02, rtol=0)


def test_a_crop_that_runs_out_of_slice_is_padded(store: FeatureStore) -> None:
    record = store.slices[0]
    sample = SampleAugmentation(key_shift_semitones=5.0, rate=1.2)
    batch = read(store, Crop(0, 0, record.frames), sample)
    valid = int(batch.lengths_frames)
    assert valid == int(record.frames / sample.speed)
    assert batch.audio[0, 0, : valid * HOP].abs().max() > 0.1
    for tensor in (
        batch.audio[0, 0, valid * HOP :],
        batch.f0_hz[0, valid:],
        batch.energy[0, valid:],
    ):
        assert not tensor.any()
    (last,) = read(store, Crop(0, record.frames - 1, 16), sample).lengths_frames.tolist()
    assert last == 1


def test_drawn_places_leave_room_for_the_speed(store: FeatureStore) -> None:
    records = store.slices
    speeds = [1.5, 0.75] * 200
    crops = CropDraw(records, 64, seed=1).crops(0, 400, speeds)
    plain = CropDraw(records, 64, seed=1).crops(0, 400)
    assert [crop.slice_index for crop in crops] == [crop.slice_index for crop in plain]
    room = [
        records[crop.slice_index].frames - crop.first_frame - 64 * speed
        for crop, speed in zip(crops, speeds, strict=True)
    ]
    assert min(room) >= 0
    assert CropDraw(records, 64, seed=1).crops(0, 400, [1.0] * 400) == plain


def test_changed_audio_is_never_paired_with_a_stored_mel(with_mels: FeatureStore) -> None:
    reader = CropReader(with_mels, with_mels.slices, SPEC)
    assert reader.read([Crop(0, 0, 16)]).mel is not None
    for sample in (SampleAugmentation(gain_db=1.0), SampleAugmentation(key_shift_semitones=1.0)):
        with pytest.raises(ValueError, match="kept mels"):
            reader.read([Crop(0, 0, 16)], [sample])
    made = next(iter(data_module(with_mels, augmentation=ONLINE).train_dataloader()))
    assert made.mel is None


@pytest.mark.parametrize("in_ram", [False, True])
def test_variants_are_those_of_the_store(store: FeatureStore, in_ram: bool) -> None:
    stored = np.load(store.path(store.slices[1], "variants")).astype(np.float32)
    own = np.load(store.path(store.slices[1], "content")).astype(np.float32)
    assert stored.shape == (2, *own.shape)
    assert store.content_variants == 2
    reader = CropReader(store, store.slices, SPEC, in_ram, ALL)
    crop = Crop(1, 10, 20)
    found = [
        reader.read([crop], [SampleAugmentation(content_variant=v)]).content[0] for v in range(3)
    ]
    positions = (np.arange(10, 30) + 0.5) * HOP / 44_100 / 0.02 - 0.5
    for rows, content in zip((own, *stored), found, strict=True):
        for channel in range(3):
            expected = np.interp(positions, np.arange(len(rows)), rows[:, channel])
            np.testing.assert_allclose(content[:, channel], expected, atol=1e-3)
    assert not torch.equal(found[1], found[2])
    plain = CropReader(store, store.slices, SPEC).read([crop])
    assert torch.equal(plain.content[0], found[0])


def test_perturbed_content_needs_variants(with_mels: FeatureStore) -> None:
    with pytest.raises(UserError, match=r"Run svc-preprocess .* augmentation=default"):
        data_module(with_mels, augmentation=ALL)
    assert data_module(with_mels, augmentation=ONLINE).batches_per_epoch > 0


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (KeyShift, {"probability": 1.1}, "key_shift.probability=1.1"),
        (KeyShift, {"min_semitones": 3.0, "max_semitones": 1.0}, "min_semitones=3.0"),
        (KeyShift, {"max_semitones": 13.0}, "from -12 to 12"),
        (Loudness, {"max_db": float("nan")}, "max_db=nan"),
        (TimeStretch, {"min_rate": 0.0}, "from 0.5 to 2"),
        (PerturbedContent, {"probability": -0.1}, "perturbed_content.probability=-0.1"),
    ],
)
def test_options_out_of_range(kind: type, values: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        kind(**values)
