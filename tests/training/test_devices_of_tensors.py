"""Every tensor of training is made on the device that trains, and of a type that it has.

No GPU is needed: everything runs on PyTorch's `meta` device, which has shapes and types but no
numbers, and refuses company from the CPU as GPUs do.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from store_material import SPEC as STORE_SPEC
from store_material import prepare_small, write_dataset
from svc.data import readers
from svc.data.augmentation.parameters import Augmentation, Loudness
from svc.data.batch import Batch, CropPlaces
from svc.data.data_module import SvcDataModule
from svc.data.dataset import already_batched
from svc.data.store import FeatureStore
from svc.diffusion import schedule
from svc.hardware import in_float64
from svc.models import sine_source
from svc.training import hifisinger, mel_singer, network_update, vocoder
from svc.training.adversary import AdversarialOptions
from svc.training.network_module import NetworkModule
from svc.training.pitch_decoupling import PitchDecoupling
from svc.training.runs import fit
from training import test_vocoder_module, tiny_mel_singer
from training.tiny_training import make_batch, tiny_module, tiny_trainer

META = torch.device("meta")
BATCH = make_batch(0, padded=3)
ARCHITECTURES = ("hifisinger", "diffusion", "flow", "vocoder")


def module_of(arch: str, **options: Any) -> NetworkModule:
    if arch == "vocoder":
        shifted = PitchDecoupling(probability=1.0)
        return test_vocoder_module.module_of(pitch_decoupling=shifted, **options)
    if arch != "hifisinger":
        return tiny_mel_singer.tiny_module(arch, sampled_batches=0, **options)
    penalty = AdversarialOptions(r1_weight=1.0, r1_every_steps=1)
    return tiny_module(adversarial=penalty, **options)


class _Numberless:
    """In place of a generator on a device that cannot draw."""

    def manual_seed(self, _: int) -> None: ...


@pytest.fixture
def without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks for the value of a tensor gets an answer; generators and autocast, which the meta
    device has not, are those of the CPU, or none."""
    real, real_autocast = torch.Generator, torch.autocast
    real_is_enabled = torch.is_autocast_enabled

    def generator(device: torch.device | str = "cpu") -> Any:
        return real(device) if torch.device(device).type == "cpu" else _Numberless()

    def weight_norm(direction: Tensor, length: Tensor, _: int) -> Tensor:
        return direction * (length / direction.flatten(1).norm(dim=1).view_as(length))

    def autocast(device_type: str, enabled: bool = True) -> torch.autocast:
        assert (device_type, enabled) == ("meta", False)  # not that of another device
        return real_autocast("cpu", enabled=False)

    monkeypatch.setattr(torch, "Generator", generator)
    monkeypatch.setattr(torch, "autocast", autocast)
    monkeypatch.setattr(
        torch, "is_autocast_enabled", lambda kind: kind != "meta" and real_is_enabled(kind)
    )
    # Whose backward pass has no shape on the meta device.
    monkeypatch.setattr(torch, "_weight_norm", weight_norm)
    monkeypatch.setattr(network_update, "bool", lambda _: True, raising=False)
    monkeypatch.setattr("lightning.pytorch.loops.fit_loop.has_len_all_ranks", lambda *_, **__: True)
    for place in (hifisinger, mel_singer, vocoder):
        monkeypatch.setattr(place, "step_generator", lambda *_: None)


class Nowhere(SingleDeviceStrategy):
    """Trains on the meta device."""

    def setup_environment(self) -> None:
        """Nothing to set up."""

    def teardown(self) -> None:
        """Nothing can be brought back from there."""


class OneKind(lightning.LightningDataModule):
    """The same batch again and again."""

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader([BATCH] * 8, batch_size=None, collate_fn=already_batched)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


def fit_on_meta(run_dir: Path, module: NetworkModule, steps: int) -> Trainer:
    trainer = tiny_trainer(run_dir, steps, limit_val_batches=0, save_every_steps=100)
    trainer.log_every_n_steps = 10**6  # type: ignore[attr-defined]
    trainer.callbacks[:] = []  # which look at numbers
    trainer._accelerator_connector.strategy = Nowhere(
        META, trainer.accelerator, trainer.strategy.checkpoint_io, trainer.precision_plugin
    )
    fit(trainer, module, OneKind())
    return trainer


def tensors_in(node: Any) -> Iterator[Tensor]:
    if isinstance(node, Tensor):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from tensors_in(value)


@pytest.mark.usefixtures("without_numbers")
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_step(tmp_path: Path, arch: str, accumulate: int) -> None:
    module = module_of(arch, accumulate_batches=accumulate)
    trainer = fit_on_meta(tmp_path, module, 2)
    assert trainer.global_step == 2
    assert module.progress.batches_seen == 2 * accumulate
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        assert tensor.device == META, name
    for optimizer in trainer.optimizers:
        states = list(tensors_in(dict(optimizer.state)))
        assert {state.device for state in states if state.ndim} == {META}


@pytest.mark.usefixtures("without_numbers")
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_validation_step(arch: str) -> None:
    module: LightningModule = module_of(arch).to(META)
    batch = BATCH.to(META)
    with torch.no_grad():
        module.on_validation_epoch_start()
        found = module.validation_step(batch, 0)
    assert ("audio" in found) == (arch in ("hifisinger", "vocoder"))
    for value in (*found.values(), module._valid_sums):  # type: ignore[operator, union-attr]
        assert value.device == META


@pytest.mark.parametrize("crop_frames", [8, 10_000])
def test_crops_of_a_training_set_on_the_device(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    crop_frames: int,
) -> None:
    """With and without padding, and with changed levels."""
    write_dataset(tmp_path / "source")
    prepare_small(tmp_path / "source", tmp_path / "store")
    monkeypatch.setattr(readers, "place_for", lambda *_: "device")
    data = SvcDataModule(
        FeatureStore.open(tmp_path / "store"),
        spec=STORE_SPEC,
        batch_size=2,
        crop_frames=crop_frames,
        workers=0,
        augmentation=Augmentation(loudness=Loudness(1.0, -20.0, 40.0)),
    )
    data.prepare_for(META)
    places = data.crops(2)
    assert isinstance(places, CropPlaces)
    request.getfixturevalue("without_numbers")  # the dataset was prepared with them
    batch = data.to_batch(places.to(META))
    for field in fields(batch):
        assert getattr(batch, field.name).device == META, field.name


@pytest.mark.parametrize(("device", "pins"), [("cuda", True), ("cpu", False), ("mps", False)])
def test_batches_are_copied_in_the_background_to_cuda_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, pins: bool
) -> None:
    """A run on the CPU starts no GPU up, and copies to Apple's GPUs read memory too late."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    write_dataset(tmp_path / "source")
    prepare_small(tmp_path / "source", tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    data = SvcDataModule(store, spec=STORE_SPEC, batch_size=2, workers=0, cache="none")
    data.prepare_for(torch.device(device))
    assert data.train_dataloader().pin_memory == data.val_dataloader().pin_memory == pins
    asked: list[bool] = []
    batch: Any = SimpleNamespace(to=lambda _, non_blocking: asked.append(non_blocking))
    module_of("flow").transfer_batch_to_device(batch, torch.device(device), 0)
    assert asked == [pins]


class NoDoubles(TorchDispatchMode):
    """Refuses float64 on the meta device, as Apple's GPUs do on themselves."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float64:
                assert tensor.device != META, f"{func} makes float64"
        return result


@pytest.mark.usefixtures("without_numbers")
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_float64_is_left_to_the_cpu_where_a_gpu_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str
) -> None:
    def on_cpu(x: Tensor) -> Tensor:
        return torch.zeros(x.shape, dtype=torch.float64)

    for place in (sine_source, schedule):
        monkeypatch.setattr(place, "in_float64", on_cpu)
    module: LightningModule = module_of(arch)
    with NoDoubles():
        fit_on_meta(tmp_path, module, 1)
        with torch.no_grad():
            module.validation_step(BATCH.to(META), 0)


def test_apples_gpus_have_no_float64() -> None:
    there: Any = SimpleNamespace(device=torch.device("mps"), cpu=lambda: torch.ones(2))
    assert torch.equal(in_float64(there), torch.ones(2, dtype=torch.float64))
