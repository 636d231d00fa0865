"""What a training step takes of the device's memory, measured on a copy of the module."""

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, Dataset

from svc.data.batch import Batch, CropPlaces, LoadedCrops
from svc.data.data_module import SvcDataModule
from svc.data.dataset import already_batched
from svc.device_memory import peak_bytes, release, restart_peak
from svc.training.batch_size import Measurement
from svc.training.network_module import NetworkModule
from svc.training.out_of_memory import is_out_of_memory, told

_logger = logging.getLogger(__name__)

_WARM_UP_LIMIT = 32
"""Steps after which an optimiser without a state is measured as it is. Under fp16 the first ones
only find the loss scale."""

_ENDLESS = 10**9

Planner = Callable[[Sequence[Measurement]], int | None]
"""What has been measured -> the next batch size, or None to end."""


class MemoryProbe:
    """Measures real training steps: forward and backward passes of every part, optimisers, moving
    average, on real crops of the data.

    Neither the module nor anything random is touched: a copy is trained, and thrown away. It is
    trained as if it were the only process of the run, which must not have begun.

    Args:
        module: on the CPU, as it is before training.
        data: where the crops come from; prepared for the device of `trainer`.
        trainer: of the run, for its device and precision.
    """

    def __init__(self, module: NetworkModule, data: SvcDataModule, trainer: L.Trainer) -> None:
        self._module = module
        self._data = data
        self._trainer = trainer
        self.device = trainer.strategy.root_device
        self.too_large: int | None = None
        """Smallest batch size for which there was not enough memory."""

    def measure(self, planner: Planner, measured: Sequence[Measurement] = ()) -> list[Measurement]:
        """Measure batch sizes until `planner` has enough, or there is no memory for one of them
        (then `too_large` says which).

        Args:
            planner: what comes next.
            measured: before; what is measured now comes after it.
        """
        first = planner(measured)
        if first is None:
            return list(measured)
        watch = _Watch(self, planner, first, measured, self._module.accumulate_batches)
        try:
            if not self._train(watch):
                self.too_large = min(watch.batch_size, self.too_large or watch.batch_size)
        finally:
            release(self.device)
            restart_peak(self.device)  # the run's begins without what was tried
        return watch.measured

    def _train(self, watch: "_Watch") -> bool:
        """Whether there was memory enough."""
        module = copy.deepcopy(self._module)
        module.let_every_part_take_part()
        with isolate_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a training that is none
            trainer = L.Trainer(
                accelerator=self.device.type,
                devices=1 if self.device.index is None else [self.device.index],
                plugins=[copy.deepcopy(self._trainer.precision_plugin), LightningEnvironment()],
                max_epochs=-1,
                limit_val_batches=0,
                logger=False,
                callbacks=[watch],
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            try:
                trainer.fit(module, datamodule=_ProbeData(self._data, watch))
            except SystemExit as left:
                if trainer.interrupted:  # Lightning's way of answering Ctrl-C
                    raise KeyboardInterrupt from left
                raise
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                _logger.info("No memory for a batch of %d: %s", watch.batch_size, told(error))
                return False
        return True

    def bytes_besides(self) -> int:
        """By how much the run will take more than the copy, or less."""
        parameters = list(self._module.parameters())
        if self.device.type == "cpu":
            # Both were there, and the run has only one of them.
            held = [*parameters, *self._module.buffers()]
            return -sum(tensor.nbytes for tensor in held)
        if self._trainer.world_size == 1:
            return 0
        # The processes exchange gradients by copies of them.
        return sum(p.nbytes for p in parameters if p.requires_grad)


class _Watch(L.Callback):
    """Decides which batch comes next, and notes what it took."""

    def __init__(
        self,
        probe: MemoryProbe,
        planner: Planner,
        first: int,
        measured: Sequence[Measurement],
        accumulate_batches: int,
    ) -> None:
        self.batch_size = first
        self.measured = list(measured)
        self._device = probe.device
        self._bytes_besides = probe.bytes_besides()
        self._planner = planner
        # An update with gradients from batch to batch; before it, what is done once for a shape.
        self._measured_batches = accumulate_batches
        self._other_batches = 1 if probe.device.type == "cuda" else 0
        self._warm_up = 0
        self._is_warm = False
        self._batches = 0
        self._peak = 0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Note what the batch took, and go on to the next size, or end."""
        if not self._is_warm:
            self._warm_up += 1
            has_state = all(optimizer.state for optimizer in trainer.optimizers)
            self._is_warm = has_state or self._warm_up >= _WARM_UP_LIMIT
            restart_peak(self._device)
            return
        self._batches += 1
        if self._batches > self._other_batches:
            self._peak = max(self._peak, peak_bytes(self._device))
        if self._batches == self._other_batches + self._measured_batches:
            peak = self._peak + self._bytes_besides
            self.measured.append(Measurement(self.batch_size, peak))
            size = self._planner(self.measured)
            if size is None:
                trainer.should_stop = True
                return
            self.batch_size, self._batches, self._peak = size, 0, 0
        restart_peak(self._device)


class _ProbeData(L.LightningDataModule):
    """Crops of the real data, as many at a time as is wanted at the moment."""

    def __init__(self, data: SvcDataModule, watch: _Watch) -> None:
        super().__init__()
        self._data = data
        self._watch = watch

    def train_dataloader(self) -> DataLoader[LoadedCrops | CropPlaces]:
        """Without an end."""
        crops = _CropsOfTheMoment(self._data, self._watch)
        return DataLoader(crops, batch_size=None, collate_fn=already_batched)

    def on_after_batch_transfer(
        self, batch: LoadedCrops | CropPlaces, dataloader_idx: int
    ) -> Batch:
        """As in the run."""
        return self._data.to_batch(batch)


class _CropsOfTheMoment(Dataset[LoadedCrops | CropPlaces]):
    def __init__(self, data: SvcDataModule, watch: _Watch) -> None:
        self._data = data
        self._watch = watch

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, _: int) -> LoadedCrops | CropPlaces:
        return self._data.crops(self._watch.batch_size)
