"""Tensors of which every process of a run holds a part: PyTorch's `DTensor`, and plain ones, which
every process holds whole."""

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def local_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory; a plain one is held whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The parts of all processes put together, which must all call this; a plain tensor itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def divided_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor divided over the processes as `pattern` of the same shape is, without a word
    between them; itself where `pattern` is plain."""
    if not isinstance(pattern, DTensor) or isinstance(tensor, DTensor):
        return tensor
    on_device = tensor.to(pattern.device)
    mesh, placements = pattern.device_mesh, pattern.placements
    return distribute_tensor(on_device, mesh, placements, src_data_rank=None)
