"""Fully sharded data-parallel training: every process holds its share of weights, gradients,
optimiser state and moving average (Zhao et al. 2023, "PyTorch FSDP"; here its second version)."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.optim import Optimizer

from svc.errors import UserError
from svc.models.mel_singer import MelSinger
from svc.training.distributed import DataParallelStrategy
from svc.training.network_module import NetworkModule
from svc.training.precision import AUTOCAST_TYPES
from svc.training.sharded_tensors import divided_like, whole


class ShardedStrategy(DataParallelStrategy):
    """Training of a large denoiser, of which each process holds a share only.

    Its layers are put together one by one while they compute, and gradients arrive averaged, each
    process getting those of its share. The moving average is put together for a validation.
    Checkpoints are those of an undivided run, so that runs of any number of processes continue each
    other; the first process puts them together in its own memory (not its device's) and writes.

    What takes no gradient stays whole in every process.

    Raises:
        UserError: the module does not train a denoiser alone.
    """

    gradients_arrive_averaged = True

    def _setup_model(self, model: nn.Module) -> Any:
        singer = getattr(model, "generator", None)
        if not (isinstance(model, NetworkModule) and isinstance(singer, MelSinger)):
            raise UserError(
                f"trainer.strategy=fsdp: {type(model).__name__} learns with networks that are too "
                f"small to be worth dividing; take trainer.strategy=data_parallel."
            )
        super()._setup_model(model)
        precision = str(self.precision_plugin.precision)
        mesh = init_device_mesh(self.root_device.type, (torch.distributed.get_world_size(),))
        shard(singer, model.ema.network, mesh, AUTOCAST_TYPES.get(precision))
        return model

    # Steps

    def pre_backward(self, closure_loss: Tensor) -> None:
        """Exchange gradients only where this batch completes them."""
        module = self.lightning_module
        assert isinstance(module, NetworkModule)
        assert isinstance(module.generator, FSDPModule)
        module.generator.set_requires_gradient_sync(module.update_is_due)

    def on_validation_start(self) -> None:
        """Put the moving average together; nothing is exchanged during a validation, in which the
        processes have different numbers of crops."""
        self._average.unshard()

    def on_validation_end(self) -> None:
        """Keep this process's share of it."""
        self._average.reshard()

    @property
    def _average(self) -> FSDPModule:
        module = self.lightning_module
        assert isinstance(module, NetworkModule)
        network = module.ema.network
        assert isinstance(network, FSDPModule)
        return network

    # Checkpoints

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights, in the first process; all must call this."""
        state: dict[str, Any] = self._put_together(super().lightning_module_state_dict())
        return state

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state, in the first process; all must call this."""
        state: dict[str, Any] = self._put_together(super().optimizer_state(optimizer))
        return state

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this process's share of whole weights, or all where they are still undivided."""
        assert self.lightning_module is not None
        present = self.lightning_module.state_dict()
        state = {
            name: divided_like(value, present[name])
            if isinstance(value, Tensor) and name in present
            else value
            for name, value in checkpoint["state_dict"].items()
        }
        super().load_model_state_dict({**checkpoint, "state_dict": state}, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's share of whole states."""
        pairs = zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
        states = [_divided_state(optimizer, state) for optimizer, state in pairs]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": states})

    def teardown(self) -> None:
        """Leave the shares where they are: Lightning would take them to the CPU, where the
        processes cannot exchange them."""
        assert self.cluster_environment is not None
        assert self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    def _put_together(self, state: Any) -> Any:
        if isinstance(state, dict):
            return {key: self._put_together(value) for key, value in state.items()}
        if isinstance(state, list):
            return [self._put_together(value) for value in state]
        together = whole(state) if isinstance(state, Tensor) else state
        if together is state:
            return state
        return together.cpu() if self.is_global_zero else None


def shard(singer: MelSinger, average: nn.Module, mesh: DeviceMesh, low: torch.dtype | None) -> None:
    """Divide a singer and its moving average over the processes.

    Args:
        singer: to be trained; parameters without gradients are left as they are.
        average: of the same structure, not trained.
        mesh: the processes.
        low: type of the autocast regions, in which weights of the denoiser's layers travel, as they
            would be cast to it anyway; gradients travel in float32. None for float32 throughout.
    """
    frozen = {p for p in singer.parameters() if not p.requires_grad}
    in_low = MixedPrecisionPolicy(
        param_dtype=low,
        reduce_dtype=None if low is None else torch.float32,
        # That is autocast's affair, which leaves some in float32.
        cast_forward_inputs=False,
    )
    denoiser = singer.denoiser
    for part in (denoiser.backbone.condition, *denoiser.backbone.blocks):
        fully_shard(part, mesh=mesh, ignored_params=frozen, mp_policy=in_low)
    # Times are processed in float32. The rest is small, and whole during a step; autocast knows
    # what of it to cast.
    for part in (denoiser.step_projection, singer):
        fully_shard(part, mesh=mesh, ignored_params=frozen)
    register_fsdp_forward_method(singer, "loss")
    fully_shard(average, mesh=mesh, ignored_params=frozen)


def _divided_state(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """The share of an optimiser's whole state that belongs to the shares of its parameters."""
    if isinstance(optimizer, LightningOptimizer):
        optimizer = optimizer.optimizer
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    divided = {
        index: {
            name: divided_like(value, parameters[index])
            if isinstance(value, Tensor) and value.shape == parameters[index].shape
            else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": divided}
