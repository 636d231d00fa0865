"""Crops hold what the store holds, cut on the hop grid; which ones come is a matter of the seed."""

import dataclasses
import signal
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from data.recorder import Recorder, trainer
from store_material import SPEC, prepare_small, write_dataset, write_voice
from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.batch import Batch, LoadedCrops
from svc.data.crop_reader import CropReader
from svc.data.data_module import SvcDataModule
from svc.data.sampling import Crop, CropDraw, CropSampler, spread_crops
from svc.data.store import FeatureStore, SliceRecord
from svc.errors import UserError
from svc.features.interpolation import to_mel_grid

HOP = SPEC.hop_samples


@pytest.fixture(scope="module", params=[False, True], ids=["mel made", "mel stored"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("crops")
    write_dataset(folder / "source")
    prepare_small(folder / "source", folder / "store", store_mel=request.param)
    return FeatureStore.open(folder / "store")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("small")
    write_dataset(folder / "source")
    prepare_small(folder / "source", folder / "store")
    return FeatureStore.open(folder / "store")


def batch_of(store: FeatureStore, crops: list[Crop], in_ram: bool = False) -> Batch:
    return CropReader(store, store.slices, SPEC, in_ram).read(crops).batch(MelSpectrogram(SPEC))


def whole_features(store: FeatureStore, record: SliceRecord) -> dict[str, torch.Tensor]:
    """The features of a whole slice, read and computed without the crop reader."""
    audio = torch.from_numpy(np.load(store.path(record, "audio")).astype(np.float32) / 32767)
    content = torch.from_numpy(np.load(store.path(record, "content")).astype(np.float32))
    f0 = torch.from_numpy(np.load(store.path(record, "f0")))
    return {
        "audio": audio,
        "mel": MelSpectrogram(SPEC)(audio),
        "content": to_mel_grid(content.T, store.meta.content_grid, SPEC, record.frames).T,
        "f0_hz": f0.abs(),
        "voiced": f0 > 0,
        "energy": torch.from_numpy(np.load(store.path(record, "energy"))),
    }


def assert_same(one: LoadedCrops, other: LoadedCrops) -> None:
    one_batch, other_batch = (crops.batch(MelSpectrogram(SPEC)) for crops in (one, other))
    for field in dataclasses.fields(Batch):
        pair = (getattr(one_batch, field.name), getattr(other_batch, field.name))
        assert torch.equal(*pair), field.name


@pytest.mark.parametrize("in_ram", [False, True])
@pytest.mark.parametrize("place", ["begin", "one in", "middle", "one before the end", "end"])
def test_crop_equals_the_span_of_its_slice(store: FeatureStore, place: str, in_ram: bool) -> None:
    for index, record in enumerate(store.slices[:3]):
        last = record.frames - 20
        first = {"begin": 0, "one in": 1, "middle": last // 2, "one before the end": last - 1}.get(
            place, last
        )
        batch = batch_of(store, [Crop(index, first, 20)], in_ram)
        whole = whole_features(store, record)
        span = slice(first, first + 20)
        torch.testing.assert_close(
            batch.audio[0, 0], whole["audio"][first * HOP : (first + 20) * HOP], atol=1e-7, rtol=0
        )
        tolerance = 4e-3 if store.has_mel else 1e-4  # half a step of fp16 at 8 to 16 is 4e-3
        torch.testing.assert_close(batch.mel[0], whole["mel"][:, span], atol=tolerance, rtol=0)
        torch.testing.assert_close(batch.content[0], whole["content"][span], atol=1e-6, rtol=0)
        assert torch.equal(batch.f0_hz[0], whole["f0_hz"][span])
        assert torch.equal(batch.voiced[0], whole["voiced"][span])
        assert torch.equal(batch.energy[0], whole["energy"][span])
        assert batch.lengths_frames.tolist() == [20]
        assert batch.speaker.tolist() == [store.speaker_index(record.speaker)]
        assert batch.key_shift_semitones.tolist() == [0.0]


def test_slices_shorter_than_the_crop_are_padded(store: FeatureStore) -> None:
    record = store.slices[0]
    frames = record.frames + 7
    batch = batch_of(store, [Crop(0, 0, frames), Crop(1, 5, frames)])
    whole = whole_features(store, record)
    assert batch.audio.shape == (2, 1, frames * HOP)
    assert batch.lengths_frames.tolist() == [
        record.frames,
        min(store.slices[1].frames - 5, frames),
    ]
    tolerance = 4e-3 if store.has_mel else 1e-4
    torch.testing.assert_close(
        batch.mel[0, :, : record.frames], whole["mel"], atol=tolerance, rtol=0
    )
    assert (batch.mel[0, :, record.frames :] == torch.tensor(1e-5).log()).all()
    torch.testing.assert_close(batch.content[0, : record.frames], whole["content"])
    assert not batch.audio[0, 0, record.frames * HOP :].any()
    for name in ("content", "f0_hz", "voiced", "energy"):
        assert not getattr(batch, name)[0, record.frames :].any()


def test_batch_has_the_promised_types(store: FeatureStore) -> None:
    batch = batch_of(store, [Crop(0, 3, 16), Crop(1, 0, 16)])
    expected = {
        "content": ((2, 16, 3), torch.float32),
        "f0_hz": ((2, 16), torch.float32),
        "voiced": ((2, 16), torch.bool),
        "energy": ((2, 16), torch.float32),
        "mel": ((2, 128, 16), torch.float32),
        "audio": ((2, 1, 16 * HOP), torch.float32),
        "lengths_frames": ((2,), torch.int64),
        "speaker": ((2,), torch.int64),
        "key_shift_semitones": ((2,), torch.float32),
    }
    for name, (shape, dtype) in expected.items():
        tensor = getattr(batch, name)
        assert (tuple(tensor.shape), tensor.dtype) == (shape, dtype), name
        assert tensor.is_contiguous(), name


def test_very_short_slices_have_the_mel_of_the_whole(tmp_path: Path) -> None:
    write_voice(tmp_path / "anna" / "short.wav", 0.55, seed=3)
    prepare_small(tmp_path / "anna", tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    (record,) = store.slices
    batch = batch_of(store, [Crop(0, 0, record.frames)])
    whole = whole_features(store, record)
    torch.testing.assert_close(batch.mel[0], whole["mel"], atol=1e-4, rtol=0)


def test_audio_and_features_lie_on_the_same_grid(tmp_path: Path) -> None:
    """An impulse in the middle of a frame shows up in that frame of every feature."""
    audio = 0.01 * np.random.default_rng(0).standard_normal(4 * 44_100)
    pulses = np.arange(20, 320, 25)
    audio[pulses * HOP + HOP // 2] = 0.9
    (tmp_path / "anna").mkdir()
    soundfile.write(tmp_path / "anna" / "pulses.wav", audio, 44_100)
    prepare_small(tmp_path / "anna", tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    assert store.slices[0].start_sample == 0
    for first in range(40, 75, 6):
        batch = batch_of(store, [Crop(0, first, 40)])
        inside = [int(pulse - first) for pulse in pulses if first <= pulse < first + 40]
        peaks = np.flatnonzero(batch.audio[0, 0].abs().numpy() > 0.5)
        assert peaks.tolist() == [frame * HOP + HOP // 2 for frame in inside]
        assert np.flatnonzero(batch.voiced[0].numpy()).tolist() == inside
        for frame in inside:
            around = slice(max(frame - 3, 0), frame + 4)
            offset = around.start
            assert int(batch.energy[0, around].argmax()) + offset == frame
            assert int(batch.mel[0, :, around].mean(0).argmax()) + offset == frame


def test_crops_are_a_function_of_seed_and_number(small: FeatureStore) -> None:
    draw = CropDraw(small.slices, 32, seed=7)
    together = draw.crops(0, 50)
    assert [draw.crops(number, 1)[0] for number in range(50)] == together
    assert draw.crops(13, 9) == together[13:22]
    assert CropDraw(small.slices, 32, seed=8).crops(0, 50) != together
    for crop in together:
        assert 0 <= crop.first_frame <= small.slices[crop.slice_index].frames - 32


def test_slices_are_drawn_by_length_or_speakers_alike(small: FeatureStore) -> None:
    records = [
        dataclasses.replace(small.slices[0], frames=900, speaker="anna"),
        dataclasses.replace(small.slices[0], frames=300, speaker="anna"),
        dataclasses.replace(small.slices[0], frames=100, speaker="bert"),
    ]

    def shares(balanced: bool) -> list[float]:
        crops = CropDraw(records, 32, 0, balanced).crops(0, 20_000)
        counts = Counter(crop.slice_index for crop in crops)
        return [counts[index] / 20_000 for index in range(3)]

    assert shares(False) == pytest.approx([9 / 13, 3 / 13, 1 / 13], abs=0.015)
    assert shares(True) == pytest.approx([0.375, 0.125, 0.5], abs=0.015)


def test_every_place_is_drawn(small: FeatureStore) -> None:
    records = [dataclasses.replace(small.slices[0], frames=40)]
    starts = Counter(crop.first_frame for crop in CropDraw(records, 32, 0).crops(0, 9000))
    assert sorted(starts) == list(range(9))
    assert max(starts.values()) < 1.2 * min(starts.values())


def test_sampler_goes_on_anywhere_and_ranks_share() -> None:
    sampler = CropSampler(batch_size=4, batches_per_epoch=5)
    everything = list(sampler)
    sampler.position = 5
    everything += list(sampler)
    assert everything == [list(range(4 * k, 4 * k + 4)) for k in range(10)]
    sampler.position = 7
    assert list(sampler) == everything[7:10]
    assert len(sampler) == 5
    ranks = [list(CropSampler(4, 5, rank, world_size=2)) for rank in range(2)]
    seen = sorted(number for batches in ranks for batch in batches for number in batch)
    assert seen == list(range(40))


def data_module(store: FeatureStore, **changes: object) -> SvcDataModule:
    arguments = {"spec": SPEC, "batch_size": 8, "crop_frames": 16, "seed": 3, "workers": 0}
    return SvcDataModule(store, **{**arguments, **changes})  # type: ignore[arg-type]


def test_workers_and_memory_do_not_change_the_batches(small: FeatureStore) -> None:
    batches = list(data_module(small).train_dataloader())
    for changes in ({"workers": 2}, {"cache": "ram"}):
        others = list(data_module(small, **changes).train_dataloader())
        assert len(others) == len(batches) > 3
        for one, other in zip(batches, others, strict=True):
            assert_same(one, other)


def test_workers_outlast_signals_to_end(small: FeatureStore) -> None:
    """Which whoever ends a job sends to all of its processes."""
    batches = iter(data_module(small, workers=2).train_dataloader())
    taken = 1
    next(batches)
    for worker in batches._workers:
        for number in (signal.SIGTERM, signal.SIGINT):
            # From somebody else: a worker knows its parent.
            subprocess.run(["kill", f"-{int(number)}", str(worker.pid)], check=True)
    taken += sum(1 for _ in batches)
    assert taken == data_module(small).batches_per_epoch
    for worker in batches._workers:
        assert worker.is_alive()
        worker.terminate()  # as Python does at the end of a process that could not tidy up
        worker.join(timeout=20)
        assert worker.exitcode == 0


def test_position_resumes_within_and_across_epochs(small: FeatureStore) -> None:
    module = data_module(small)
    per_epoch = module.batches_per_epoch
    first = list(module.train_dataloader())
    module.set_position(per_epoch)
    second = list(module.train_dataloader())
    assert len(first) == len(second) == per_epoch
    assert not torch.equal(first[0].waveform, second[0].waveform)

    resumed = data_module(small)
    resumed.load_state_dict({"batches_seen": per_epoch + 3})
    loader = resumed.train_dataloader()
    assert len(loader) == per_epoch
    rest = list(loader)
    assert len(rest) == per_epoch - 3
    for one, other in zip(rest, second[3:], strict=True):
        assert_same(one, other)


def test_another_batch_size_goes_on_with_the_crops_that_come_next(small: FeatureStore) -> None:
    taken = data_module(small, batch_size=8)
    taken.set_position(7)
    crops = taken.crops(64).waveform
    for size, after in ((4, 56), (16, 48), (8, 56)):
        resumed = data_module(small, batch_size=size)
        resumed.load_state_dict(taken.state_dict())
        first = next(iter(resumed.train_dataloader()))
        assert torch.equal(first.waveform, crops[after : after + size])
    one_of_four = {**taken.state_dict(), "batch_size": 2, "processes": 4}
    resumed.load_state_dict(one_of_four)
    assert resumed.batches_seen == 7


def test_a_few_crops_may_come_over_and_over(small: FeatureStore) -> None:
    """As debug=overfit wants it; from any position on."""
    settings = {"spec": SPEC, "batch_size": 4, "crop_frames": 16, "workers": 0}
    first = SvcDataModule(small, **settings).crops(6)  # type: ignore[arg-type]
    assert isinstance(first, LoadedCrops)
    few = SvcDataModule(small, **settings, only_crops=6)  # type: ignore[arg-type]
    few.set_position(1)
    batch = next(iter(few.train_dataloader()))
    assert isinstance(batch, LoadedCrops)
    expected = first.batch(MelSpectrogram(SPEC)).audio[[4, 5, 0, 1]]
    assert torch.equal(batch.batch(MelSpectrogram(SPEC)).audio, expected)
    with pytest.raises(UserError, match="only_crops=0"):
        SvcDataModule(small, **settings, only_crops=0)  # type: ignore[arg-type]


def test_an_epoch_is_as_long_as_the_audio(small: FeatureStore) -> None:
    frames = sum(record.frames for record in small.split("train"))
    assert data_module(small).batches_per_epoch == frames // 16 // 8
    assert data_module(small, batch_size=10_000).batches_per_epoch == 1


def test_only_training_slices_are_trained_on(small: FeatureStore) -> None:
    module = data_module(small, crop_frames=8)
    assert {record.split for record in module._train.reader._slices} == {"train"}
    assert {record.split for record in module._valid.reader._slices} == {"valid"}


def test_validation_is_the_same_every_time(small: FeatureStore) -> None:
    module = data_module(small, valid_crop_frames=64)
    loader = module.val_dataloader()
    for one, other in zip(list(loader), list(loader), strict=True):
        assert_same(one, other)
    (batch,) = list(loader)
    assert len(batch.speaker) == module.valid_crops == len(small.split("valid"))
    assert batch.batch(MelSpectrogram(SPEC)).mel.shape[-1] == 64


def test_validation_crops_are_spread(small: FeatureStore) -> None:
    records = [dataclasses.replace(small.slices[0], frames=100 + n) for n in range(10)]
    crops = spread_crops(records, 104, 4)
    assert [crop.slice_index for crop in crops] == [0, 3, 6, 9]
    assert [crop.frames for crop in crops] == [100, 103, 104, 104]
    assert crops[-1].first_frame == 2
    assert spread_crops([], 104, 4) == []


def sounds(recorder: Recorder) -> list[float]:
    """A number that tells the batches apart."""
    return [float(batch.audio.double().sum()) for batch in recorder.seen]


@pytest.mark.filterwarnings("error:You're resuming")
@pytest.mark.parametrize("stop", [3, "epoch", "epoch and 2"])
def test_trainer_resumes_with_the_batches_that_were_left(
    small: FeatureStore, tmp_path: Path, stop: int | str
) -> None:
    per_epoch = data_module(small).batches_per_epoch
    steps = {"epoch": per_epoch, "epoch and 2": per_epoch + 2}.get(str(stop), stop)
    total = per_epoch + 4
    whole = Recorder()
    trainer(tmp_path, total).fit(whole, datamodule=data_module(small))

    begun = Recorder()
    first = trainer(tmp_path, int(steps))
    first.fit(begun, datamodule=data_module(small))
    first.save_checkpoint(tmp_path / "stopped.ckpt")
    resumed = Recorder()
    module = data_module(small)
    trainer(tmp_path, total).fit(resumed, datamodule=module, ckpt_path=tmp_path / "stopped.ckpt")
    assert sounds(begun) + sounds(resumed) == sounds(whole)
    assert module.batches_seen == total


@pytest.mark.parametrize("size", [4, 16])
def test_trainer_resumes_with_another_batch_size(
    small: FeatureStore, tmp_path: Path, size: int
) -> None:
    begun = data_module(small).batches_per_epoch + 2
    first = trainer(tmp_path, begun)
    first.fit(Recorder(), datamodule=data_module(small))
    first.save_checkpoint(tmp_path / "stopped.ckpt")
    whole, resumed = Recorder(), Recorder()
    after = begun * 8 // size
    trainer(tmp_path, after + 20).fit(whole, datamodule=data_module(small, batch_size=size))
    module = data_module(small, batch_size=size)
    trainer(tmp_path, begun + 20).fit(
        resumed, datamodule=module, ckpt_path=tmp_path / "stopped.ckpt"
    )
    assert sounds(resumed) == sounds(whole)[after:]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"crop_frames": 0}, "data.crop_frames=0"),
        ({"cache": "disk"}, "data.cache='disk'"),
        ({"workers": -1}, "data.workers=-1"),
        ({"spec": AudioSpec(sample_rate_hz=48_000)}, "framing"),
    ],
)
def test_arguments_out_of_range(
    small: FeatureStore, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        data_module(small, **changes)


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    write_voice(tmp_path / "anna" / "a.wav", 2.0, seed=1)
    prepare_small(tmp_path / "anna", tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    store.path(store.slices[0], "energy").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        batch_of(store, [Crop(0, 0, 16)])
