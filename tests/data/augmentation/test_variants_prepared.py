"""Content variants are prepared like everything in a store: once, resumably, to the same bytes."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from store_material import (
    CALLS,
    SPEC,
    BlockContent,
    CountedEnergy,
    CrossingPitch,
    prepare_small,
    snapshot,
    write_dataset,
)
from svc.data.augmentation.content import ContentPerturbation
from svc.data.settings import ExtractionSettings
from svc.data.store import FeatureStore
from svc.errors import UserError

TWO = partial(ContentPerturbation, variants=2)


class Killed(BaseException):
    """Nothing in the preparation catches it."""


class SlowlyPerturbed(ContentPerturbation):
    """Ends the process' work at a chosen copy."""

    copies_left = 10**9

    def variants_of(
        self, audio: torch.Tensor, sample_rate_hz: int, slice_id: str
    ) -> Iterator[torch.Tensor]:
        for copy in super().variants_of(audio, sample_rate_hz, slice_id):
            SlowlyPerturbed.copies_left -= 1
            if SlowlyPerturbed.copies_left < 0:
                raise Killed
            yield copy


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("source"), files=2, seconds=2.5)


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with variants; not to be changed."""
    folder = tmp_path_factory.mktemp("prepared") / "store"
    prepare_small(source, folder, perturbation=TWO)
    return folder


def wanted(**changes: Any) -> ExtractionSettings:
    parts = {
        "content": BlockContent,
        "pitch": partial(CrossingPitch, f0_min_hz=60.0),
        "energy": CountedEnergy,
        "slicing": {},
    }
    return ExtractionSettings.of(spec=SPEC, **{**parts, **changes})


def test_variants_are_the_content_of_the_copies(prepared: Path) -> None:
    store = FeatureStore.open(prepared, wanted(perturbation=TWO))
    record = store.slices[0]
    audio = torch.from_numpy(np.load(store.path(record, "audio")).astype(np.float32) / 32767)
    copies = ContentPerturbation(variants=2).variants_of(audio, 44_100, record.id)
    expected = [BlockContent().encode(copy, 44_100).T.numpy().astype(np.float16) for copy in copies]
    stored = np.load(store.path(record, "variants"))
    assert stored.dtype == np.float16
    assert np.array_equal(stored, np.stack(expected))
    assert not np.array_equal(stored[0], stored[1])


@pytest.mark.slow
def test_worker_processes_give_the_same_variants(
    prepared: Path, source: Path, tmp_path: Path
) -> None:
    prepare_small(source, tmp_path / "store", perturbation=TWO, workers=2)
    assert snapshot(tmp_path / "store") == snapshot(prepared)


@pytest.mark.parametrize("copies", [0, 1, 5])
def test_stopped_preparation_goes_on_to_the_same_bytes(
    source: Path, tmp_path: Path, copies: int
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    perturbation = partial(SlowlyPerturbed, variants=2)
    SlowlyPerturbed.copies_left = 10**9
    prepare_small(source, whole, perturbation=perturbation)
    SlowlyPerturbed.copies_left = copies
    with pytest.raises(Killed):
        prepare_small(source, stopped, perturbation=perturbation)
    with pytest.raises(UserError, match="it has no manifest"):
        FeatureStore.open(stopped)
    SlowlyPerturbed.copies_left = 10**9
    report = prepare_small(source, stopped, perturbation=perturbation)
    assert report.unchanged_files == copies // 2
    assert snapshot(stopped) == snapshot(whole)


def test_variants_come_and_go_without_touching_the_rest(
    source: Path, prepared: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    prepare_small(source, store)
    without = snapshot(store)
    assert not any(".variants." in name for name in without)
    CALLS.clear()
    prepare_small(source, store, perturbation=TWO)
    assert snapshot(store) == snapshot(prepared)
    slices = len(FeatureStore.open(store).slices)
    assert {"content": 2 * slices} == CALLS  # the content itself stays, as do pitch and energy
    prepare_small(source, store)
    assert snapshot(store) == without


def test_other_perturbation_or_content_makes_them_anew(
    source: Path, prepared: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(prepared, tmp_path / "store"))
    slices = len(FeatureStore.open(store).slices)
    CALLS.clear()
    prepare_small(source, store, perturbation=partial(ContentPerturbation, variants=2, seed=1))
    assert {"content": 2 * slices} == CALLS
    assert snapshot(store) != snapshot(prepared)
    CALLS.clear()
    prepare_small(source, store, perturbation=TWO, content=partial(BlockContent, scale=2.0))
    assert {"content": 3 * slices} == CALLS


def test_settings_with_variants_are_compared(prepared: Path, source: Path, tmp_path: Path) -> None:
    FeatureStore.open(prepared, wanted())  # more than wanted is no difference
    other = wanted(perturbation=partial(ContentPerturbation, variants=2, noise_max_snr_db=50.0))
    with pytest.raises(UserError, match=r"noise_max_snr_db: stored 40.0, wanted 50.0"):
        FeatureStore.open(prepared, other)
    prepare_small(source, tmp_path / "store", store_mel=True)
    with pytest.raises(UserError, match=r"no content variants are stored[\s\S]*svc-preprocess"):
        FeatureStore.open(tmp_path / "store", wanted(perturbation=TWO))


def test_stores_without_variants_are_described_as_before() -> None:
    assert "perturbation" not in wanted().as_dict()
    assert "variants" not in wanted().feature_fingerprints()
    both = wanted(perturbation=TWO)
    assert ExtractionSettings.from_dict(both.as_dict()) == both
    assert both.fingerprint != wanted().fingerprint
    mine, plain = both.feature_fingerprints(), wanted().feature_fingerprints()
    assert {name: mine[name] for name in plain} == plain
