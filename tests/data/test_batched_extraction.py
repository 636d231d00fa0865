"""Slices go through extractors together, within a bound, and come out as they would alone."""

import multiprocessing
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from store_material import (
    CALLS,
    BlockContent,
    CountedEnergy,
    CrossingPitch,
    prepare_small,
    snapshot,
    write_dataset,
    write_voice,
)
from svc.data.augmentation.content import ContentPerturbation
from svc.data.store import FeatureStore
from svc.data.store_writer import StoreWriter
from svc.errors import UserError
from svc.features.pitch.base import Pitch

COPIES = partial(ContentPerturbation, variants=2)


class GpuContent(BlockContent):
    """Says that it runs on a GPU, and keeps how it was asked: the lengths of each batch."""

    device = "cuda"
    batches: ClassVar[list[list[int]]] = []

    def __init__(self) -> None:
        super().__init__()
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("the GPU belongs to the process that began")

    def encode_batch(self, audios: Sequence[Tensor], sample_rate_hz: int) -> list[Tensor]:
        self.batches.append([len(audio) for audio in audios])
        return super().encode_batch(audios, sample_rate_hz)


class GpuPitch(CrossingPitch):
    """The same of pitch."""

    device = "cuda"
    batches: ClassVar[list[list[int]]] = []

    def track_batch(
        self, audios: Sequence[Tensor], sample_rate_hz: int, hop_samples: int
    ) -> list[Pitch]:
        self.batches.append([len(audio) for audio in audios])
        return super().track_batch(audios, sample_rate_hz, hop_samples)


class NoLoudContent(GpuContent):
    """Cannot digest some slices, nor any batch that holds one."""

    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        if float(audio.abs().max()) > 0.8:
            raise RuntimeError("too loud for me")
        return super().encode(audio, sample_rate_hz)


class ForgetfulContent(GpuContent):
    """Loses a result where there are several."""

    def encode_batch(self, audios: Sequence[Tensor], sample_rate_hz: int) -> list[Tensor]:
        return super().encode_batch(audios, sample_rate_hz)[: max(len(audios) - 1, 1)]


class InterruptedContent(GpuContent):
    """Ctrl-C comes with the first batch."""

    def encode_batch(self, audios: Sequence[Tensor], sample_rate_hz: int) -> list[Tensor]:
        raise KeyboardInterrupt


class BadNumbersContent(BlockContent):
    """Gives NaN for loud slices."""

    def encode(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        content = super().encode(audio, sample_rate_hz)
        return content * torch.nan if float(audio.abs().max()) > 0.8 else content


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The arrays as they come out slice by slice on a CPU, with perturbed copies."""
    folder = tmp_path_factory.mktemp("alone") / "store"
    prepare_small(source, folder, batch_s=None, perturbation=COPIES)
    return arrays(folder)


@pytest.fixture(autouse=True)
def _forget() -> None:
    CALLS.clear()
    GpuContent.batches.clear()
    GpuPitch.batches.clear()


def arrays(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in snapshot(folder).items() if name.endswith(".npy")}


def seconds(batch: list[int]) -> float:
    return sum(batch) / 44_100


def test_slices_of_several_recordings_go_through_by_length(
    source: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    prepare_small(source, tmp_path / "store", content=GpuContent, batch_s=27.0, perturbation=COPIES)
    assert arrays(tmp_path / "store") == alone
    slices = FeatureStore.open(tmp_path / "store").slices
    batches = GpuContent.batches
    assert sum(map(len, batches)) == 3 * len(slices), "a slice and its two copies"
    assert len(batches) < len({record.source for record in slices})
    for batch in batches:
        assert batch == sorted(batch)
        assert 0 < seconds(batch) <= 27.0


def test_pitch_is_tracked_in_batches_as_well(
    source: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    prepare_small(source, tmp_path / "store", pitch=partial(GpuPitch, f0_min_hz=60.0))
    (batch,) = GpuPitch.batches
    assert batch == sorted(batch)
    assert len(batch) == len(FeatureStore.open(tmp_path / "store").slices)
    found = arrays(tmp_path / "store")
    assert found == {k: v for k, v in alone.items() if not k.endswith(".variants.npy")}


@pytest.mark.parametrize("batch_s", [None, 0, 0.001])
def test_without_room_for_two_every_slice_goes_alone(
    batch_s: float | None, source: Path, tmp_path: Path
) -> None:
    prepare_small(source, tmp_path / "store", content=GpuContent, batch_s=batch_s)
    assert {len(batch) for batch in GpuContent.batches} == {1}


def test_a_long_recording_is_held_in_parts(tmp_path: Path) -> None:
    write_voice(tmp_path / "anna" / "long.wav", 60.0, seed=1)
    settings = {"content": GpuContent, "pitch": GpuPitch}
    prepare_small(tmp_path / "anna", tmp_path / "store", batch_s=25.0, **settings)
    for batches in (GpuContent.batches, GpuPitch.batches):
        assert max(map(seconds, batches)) <= 25.0
        assert max(map(len, batches)) > 1
        assert sum(map(seconds, batches)) > 55.0
    prepare_small(tmp_path / "anna", tmp_path / "one by one", batch_s=None, **settings)
    assert arrays(tmp_path / "store") == arrays(tmp_path / "one by one")


def test_on_a_cpu_recordings_are_finished_one_after_the_other(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a killed run loses one recording at most."""
    written: list[str] = []
    write_array, write_source = StoreWriter.write_array, StoreWriter.write_source

    def noted_array(self: StoreWriter, speaker: str, slice_id: str, *args: object) -> None:
        written.append(f"array {slice_id.rsplit('_', 1)[0]}")
        write_array(self, speaker, slice_id, *args)  # type: ignore[arg-type]

    def noted_source(self: StoreWriter, record: object) -> None:
        written.append("record")
        write_source(self, record)  # type: ignore[arg-type]

    monkeypatch.setattr(StoreWriter, "write_array", noted_array)
    monkeypatch.setattr(StoreWriter, "write_source", noted_source)
    prepare_small(source, tmp_path / "store")
    groups = " ".join(written).split("record")
    assert len(groups) == 7
    assert all(len(set(group.replace("array", "").split())) == 1 for group in groups[:6])


@pytest.mark.parametrize("content", [NoLoudContent, BadNumbersContent])
def test_a_bad_slice_harms_no_other(content: type[BlockContent], tmp_path: Path) -> None:
    for number in range(3):
        write_voice(tmp_path / "voices" / f"{number}.wav", 4.0, seed=number)
    prepare_small(tmp_path / "voices", tmp_path / "good")
    write_voice(tmp_path / "voices" / "loud.wav", 4.0, seed=1, peak=0.9)
    report = prepare_small(tmp_path / "voices", tmp_path / "store", content=content)
    (skipped,) = report.skipped
    assert skipped.name == "loud.wav"
    assert "in the slice at 0.0 s" in skipped.reason
    assert ("too loud for me" in skipped.reason) or ("NaN" in skipped.reason)
    assert arrays(tmp_path / "store") == arrays(tmp_path / "good")


def test_a_lost_result_is_no_other_slices(
    source: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    prepare_small(
        source, tmp_path / "store", content=ForgetfulContent, batch_s=900, perturbation=COPIES
    )
    assert arrays(tmp_path / "store") == alone
    assert {len(batch) for batch in GpuContent.batches} == {len(GpuContent.batches) - 1, 1}


def test_one_process_has_the_gpu_and_others_do_the_rest(
    source: Path, alone: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svc.data.process_pool.available_cores", lambda: 2)
    prepare_small(source, tmp_path / "store", content=GpuContent, workers=2, perturbation=COPIES)
    assert arrays(tmp_path / "store") == alone
    assert GpuContent.batches
    assert CALLS["f0"] == CALLS["energy"] == 0, "this process only drives the GPU"
    first = snapshot(tmp_path / "store")
    prepare_small(source, tmp_path / "another", content=GpuContent, workers=1, perturbation=COPIES)
    assert snapshot(tmp_path / "another") == first


def test_what_was_done_before_the_gpu_is_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svc.data.process_pool.available_cores", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        prepare_small(source, tmp_path / "store", content=InterruptedContent, workers=2)
    with pytest.raises(UserError, match="has not finished"):
        FeatureStore.open(tmp_path / "store")
    # The recordings of the batch that was interrupted; all others may or may not have come so far.
    prepare_small(source, tmp_path / "store", content=GpuContent)
    slices = FeatureStore.open(tmp_path / "store").slices
    assert CALLS["content"] == len(slices)
    assert CALLS["f0"] < len(slices)
    prepare_small(source, tmp_path / "fresh", content=GpuContent)
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "fresh")


def test_only_what_is_stale_goes_to_the_gpu(source: Path, tmp_path: Path) -> None:
    pitch = partial(GpuPitch, f0_min_hz=60.0)
    prepare_small(source, tmp_path / "store", content=GpuContent, pitch=pitch)
    GpuContent.batches.clear()
    prepare_small(
        source,
        tmp_path / "store",
        content=GpuContent,
        pitch=partial(GpuPitch, f0_min_hz=70.0),
        workers=2,
    )
    assert GpuContent.batches == []
    assert len(GpuPitch.batches) == 2
    for path in (tmp_path / "store").rglob("*.f0.npy"):
        assert np.abs(np.load(path)).min() >= 70


def test_settings_that_went_back_do_not_find_half_changed_arrays(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_small(source, tmp_path / "store")
    before = snapshot(tmp_path / "store")
    write_array = StoreWriter.write_array

    def until_energy(
        self: StoreWriter, speaker: str, slice_id: str, feature: str, values: object
    ) -> None:
        if feature == "energy":
            raise KeyboardInterrupt
        write_array(self, speaker, slice_id, feature, values)  # type: ignore[arg-type]

    class OtherEnergy(CountedEnergy):
        pass

    other = {"pitch": partial(CrossingPitch, f0_min_hz=250.0), "energy": OtherEnergy}
    monkeypatch.setattr(StoreWriter, "write_array", until_energy)
    with pytest.raises(KeyboardInterrupt):
        prepare_small(source, tmp_path / "store", **other)
    monkeypatch.undo()
    with pytest.raises(UserError, match="has not finished"):
        FeatureStore.open(tmp_path / "store")
    assert snapshot(tmp_path / "store") != before
    prepare_small(source, tmp_path / "store")
    assert snapshot(tmp_path / "store") == before


def test_a_negative_bound_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"preparation\.batch_s=-1"):
        prepare_small(source, tmp_path / "store", batch_s=-1)
