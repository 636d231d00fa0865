"""What a step takes is measured without touching the run, and a batch size is found or refused."""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from store_material import prepare_small, write_voice
from svc.data.batch import Batch
from svc.data.data_module import SvcDataModule
from svc.data.store import FeatureStore
from svc.device_memory import peak_bytes
from svc.errors import UserError, UserErrors
from svc.models.conditioner import Conditioner
from svc.models.hifisinger import HifiSinger
from svc.models.wavenet import WaveNet
from svc.training import preflight as preflight_module
from svc.training.adversary import AdversarialOptions
from svc.training.batch_size import Measurement
from svc.training.hifisinger import HifiSingerModule
from svc.training.memory_probe import MemoryProbe
from svc.training.out_of_memory import is_out_of_memory, out_of_memory_explained
from svc.training.preflight import PreflightOptions, preflight
from svc.training.runs import fit
from training.tiny_training import SPEC, tiny_decoder, tiny_module, tiny_trainer

MIB = 2**20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("preflight")
    for number in range(3):
        write_voice(folder / "source" / "anna" / f"{number}.wav", 3.5, number)
    prepare_small(folder / "source", folder / "store")
    return FeatureStore.open(folder / "store")


def data_module(store: FeatureStore, **changes: Any) -> SvcDataModule:
    arguments = {"spec": SPEC, "batch_size": "auto", "crop_frames": 8, "seed": 3, "workers": 0}
    return SvcDataModule(store, **{**arguments, **changes})


def generator() -> HifiSinger:
    """That of `tiny_training`, for the content of `store_material`."""
    torch.manual_seed(0)
    return HifiSinger(
        Conditioner(content_channels=3, speakers=1, channels=4),
        WaveNet(4, 4, channels=4, layers=2, out_channels=4),
        tiny_decoder(),
    )


def module(**options: Any) -> HifiSingerModule:
    return tiny_module(generator(), **options)


def sizes(*wanted: int) -> Any:
    return lambda found: wanted[len(found)] if len(found) < len(wanted) else None


def probe(
    store: FeatureStore, tmp_path: Path, trained: HifiSingerModule, **options: Any
) -> MemoryProbe:
    data = data_module(store)
    trainer = tiny_trainer(tmp_path, 1, **options)
    data.prepare_for(trainer.strategy.root_device)
    return MemoryProbe(trained, data, trainer)


def with_budget(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(preflight_module, "budget_bytes", lambda *_: size)


def with_line(monkeypatch: pytest.MonkeyPatch, fixed: int, per_crop: int) -> list[int]:
    """Let steps take so much without being made; -> sizes that were measured."""
    tried: list[int] = []

    def measure(self: MemoryProbe, planner: Any, measured: Any = ()) -> list[Measurement]:
        found = list(measured)
        while (size := planner(found)) is not None:
            tried.append(size)
            found.append(Measurement(size, fixed + per_crop * size))
        return found

    monkeypatch.setattr(MemoryProbe, "measure", measure)
    return tried


class Hungry(HifiSingerModule):
    """Whose steps take 32 MiB more for each crop."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        torch.ones(len(batch.speaker), 8 * MIB).sum()
        super().training_step(batch, batch_idx)


class Starved(HifiSingerModule):
    """Without memory for more than two crops."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        if len(batch.speaker) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        super().training_step(batch, batch_idx)


def test_memory_is_that_of_the_steps(store: FeatureStore, tmp_path: Path) -> None:
    trained = module()
    trained.__class__ = Hungry
    one, four = probe(store, tmp_path, trained).measure(sizes(1, 4))
    assert (one.batch_size, four.batch_size) == (1, 4)
    assert four.peak_bytes - one.peak_bytes == pytest.approx(96 * MIB, rel=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="peaks can be begun anew on Linux only")
def test_what_was_tried_is_not_counted_as_the_runs(store: FeatureStore, tmp_path: Path) -> None:
    trained = module()
    trained.__class__ = Hungry
    (eight,) = probe(store, tmp_path, trained).measure(sizes(8))
    assert peak_bytes(torch.device("cpu")) < eight.peak_bytes - 128 * MIB


def test_nothing_of_the_run_is_touched(store: FeatureStore, tmp_path: Path) -> None:
    trained = module()
    before = {
        name: value.clone() for name, value in trained.state_dict().items() if "extra" not in name
    }
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    probe(store, tmp_path, trained).measure(sizes(1, 2))
    for name, value in before.items():
        assert torch.equal(trained.state_dict()[name], value), name
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index]
    assert trained.progress.batches_seen == 0
    assert trained._trainer is None


def trained_weights(
    store: FeatureStore, run_dir: Path, batch_size: int | str, **options: Any
) -> dict[str, Any]:
    data, trained = data_module(store, batch_size=batch_size), module()
    trainer = tiny_trainer(run_dir, 4, **options)
    preflight(trainer, trained, data, PreflightOptions(max_batch_size=4))
    assert data.batch_size == 4
    fit(trainer, trained, data)
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)


def assert_equal(one: Any, other: Any, path: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list):
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, path=f"{path}/{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


@pytest.mark.slow
def test_a_run_with_auto_is_that_with_the_number(store: FeatureStore, tmp_path: Path) -> None:
    given = trained_weights(store, tmp_path / "given", 4)
    found = trained_weights(store, tmp_path / "found", "auto")
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "svc", "SvcDataModule"):
        assert_equal(given[key], found[key], key)
    assert found["SvcDataModule"] == {"batches_seen": 4, "batch_size": 4, "processes": 1}


@pytest.mark.slow
def test_a_continued_run_keeps_its_batch_size(store: FeatureStore, tmp_path: Path) -> None:
    trained_weights(store, tmp_path, "auto")
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    data, trained = data_module(store), module()
    trainer = tiny_trainer(tmp_path, 6)
    preflight(trainer, trained, data, PreflightOptions(max_batch_size=2), checkpoint)
    assert data.batch_size == 4
    fit(trainer, trained, data, checkpoint)
    assert data.batches_seen == 6


def test_parts_that_join_later_are_measured_too(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svc.training import adversarial

    penalties, verdicts = [], []
    real_consult, real_penalty = adversarial.consult, adversarial.r1_gradient_penalty
    monkeypatch.setattr(
        adversarial, "consult", lambda *a, **k: verdicts.append(1) or real_consult(*a, **k)
    )
    monkeypatch.setattr(
        adversarial,
        "r1_gradient_penalty",
        lambda *a, **k: penalties.append(1) or real_penalty(*a, **k),
    )
    late = AdversarialOptions(start_step=1000, r1_weight=1.0, r1_every_steps=16)
    trained = module(adversarial=late)
    probe(store, tmp_path, trained).measure(sizes(1, 2))
    assert len(verdicts) == len(penalties) == 3  # one to warm up
    assert trained.adversarial == late


@pytest.mark.slow
def test_an_update_of_several_batches_is_measured_whole(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = HifiSingerModule.training_step

    def counting(self: HifiSingerModule, batch: Batch, batch_idx: int) -> None:
        seen.append(len(batch.speaker))
        real(self, batch, batch_idx)

    monkeypatch.setattr(HifiSingerModule, "training_step", counting)
    probe(store, tmp_path, module(accumulate_batches=3)).measure(sizes(1, 2))
    assert seen == [1] * 6 + [2] * 3


def test_the_end_of_memory_ends_the_measuring(
    store: FeatureStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trained = module()
    trained.__class__ = Starved
    measuring = probe(store, tmp_path, trained)
    state = torch.get_rng_state()
    found = measuring.measure(sizes(1, 2, 4, 8))
    assert [m.batch_size for m in found] == [1, 2]
    assert measuring.too_large == 4
    assert "No memory for a batch of 4: CUDA out of memory" in caplog.text
    assert torch.equal(torch.get_rng_state(), state)


def test_other_failures_are_not_taken_for_it(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    monkeypatch.setattr(HifiSingerModule, "training_step", broken)
    with pytest.raises(RuntimeError, match="size of tensor"):
        probe(store, tmp_path, module()).measure(sizes(1))


def test_auto_leaves_a_margin_and_stays_within_the_data(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    trainer = tiny_trainer(tmp_path, 1)
    assert with_line(monkeypatch, 100 * MIB, 10 * MIB) == []
    with_budget(monkeypatch, 500 * MIB)
    data = data_module(store)
    preflight(trainer, module(), data, PreflightOptions(margin=0.2))
    assert data.batch_size == 16  # of 22
    assert caplog.messages[-1] == (
        "data.batch_size=auto: 16 crops. A training step takes about 0.3 GiB of the 0.5 GiB that "
        "are there for it on cpu."
    )
    few = data_module(store, crop_frames=96)
    preflight(trainer, module(), few, PreflightOptions())
    assert few.batch_size <= few.crops_per_epoch < 16
    with_budget(monkeypatch, 90 * MIB)
    with pytest.raises(UserError, match=r"not even one crop fits into the 0.1 GiB"):
        preflight(trainer, module(), data_module(store), PreflightOptions())


def test_a_batch_that_does_not_fit_is_refused(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    trainer = tiny_trainer(tmp_path, 1)
    tried = with_line(monkeypatch, 1024 * MIB, 256 * MIB)
    with_budget(monkeypatch, 8192 * MIB)
    check = PreflightOptions(check=True)
    with pytest.raises(UserError) as refused:
        preflight(trainer, module(), data_module(store, batch_size=64), check)
    assert str(refused.value).startswith(
        "data.batch_size=64 does not fit. A training step takes about 17.0 GiB of the 8.0 GiB that "
        "are there for it on cpu. The largest batch that fits is about 24: give data.batch_size=24"
    )
    assert tried == [2, 4]
    preflight(trainer, module(), data_module(store, batch_size=8), check)
    assert caplog.messages[-1] == (
        "data.batch_size=8. A training step takes about 3.0 GiB of the 8.0 GiB that are there for "
        "it on cpu. The largest batch that fits is about 28."
    )


def test_what_cannot_be_measured_stops_a_search_but_no_training(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("an unknown device")

    monkeypatch.setattr(MemoryProbe, "measure", broken)
    trainer = tiny_trainer(tmp_path, 1)
    options = PreflightOptions(check=True)
    preflight(trainer, module(), data_module(store, batch_size=2), options)
    assert "Memory could not be looked at beforehand" in caplog.text
    assert "an unknown device" in caplog.text
    with pytest.raises(RuntimeError, match="an unknown device"):
        preflight(trainer, module(), data_module(store), options)


@pytest.mark.parametrize(("check", "looks"), [("auto", False), (False, False), (True, True)])
def test_a_cpu_is_looked_at_only_when_asked(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Any, looks: bool
) -> None:
    tried = with_line(monkeypatch, MIB, MIB)
    trainer = tiny_trainer(tmp_path, 1)
    preflight(trainer, module(), data_module(store, batch_size=2), PreflightOptions(check=check))
    assert bool(tried) == looks


def test_where_memory_cannot_be_told_auto_is_refused(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight_module, "budget_bytes", lambda *_: None)
    trainer = tiny_trainer(tmp_path, 1)
    with pytest.raises(UserError, match=r"data.batch_size=auto: nothing here tells .* a number"):
        preflight(trainer, module(), data_module(store), PreflightOptions())
    preflight(trainer, module(), data_module(store, batch_size=2), PreflightOptions(check=True))


def test_undecided_batches_are_not_trained_with(store: FeatureStore) -> None:
    with pytest.raises(UserError, match=r"data.batch_size=auto is decided by svc-train"):
        data_module(store).train_dataloader()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"check": "always"}, "preflight.check='always'"),
        ({"margin": 1.0}, "preflight.margin=1.0"),
        ({"max_batch_size": 0}, "preflight.max_batch_size=0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserErrors, match=words):
        PreflightOptions(**options)


def test_running_out_of_memory_is_explained(store: FeatureStore, tmp_path: Path) -> None:
    trained, data = module(), data_module(store, batch_size=3)
    trained.__class__ = Starved
    with (
        pytest.raises(UserError, match=r"with data.batch_size=3 \(CUDA out of memory.*resume=auto"),
        out_of_memory_explained(data),
    ):
        fit(tiny_trainer(tmp_path, 2), trained, data)


def test_running_out_of_memory_in_a_validation_is_told_apart(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validation_step(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes")

    monkeypatch.setattr(HifiSingerModule, "validation_step", validation_step)
    data = data_module(store, batch_size=3)
    with (
        pytest.raises(UserError, match=r"in a validation .*data.valid_batch_size"),
        out_of_memory_explained(data),
    ):
        fit(tiny_trainer(tmp_path, 3), module(), data)
    with pytest.raises(ValueError, match="odd"), out_of_memory_explained(data):
        raise ValueError("odd")


@pytest.mark.parametrize(
    ("error", "is_that"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory"
            ),
            True,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (
            RuntimeError(
                "FIND was unable to find an engine to execute this computation after trying 9 plans"
            ),
            True,
        ),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_that_say_so(error: BaseException, is_that: bool) -> None:
    assert is_out_of_memory(error) == is_that
