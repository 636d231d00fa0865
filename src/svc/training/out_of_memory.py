"""Where there is not memory enough: how errors say so, and what a person can do."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from svc.data.data_module import SvcDataModule
from svc.errors import UserError

SMALLER_STEPS = (
    "trainer.accumulate_grad_batches=2 makes one update of two batches; shorter crops "
    "(data.crop_frames) and, for models that render, arch.render_frames take less memory too."
)
"""What takes less memory, besides smaller batches."""

_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)
"""What torch says where it raises no error of its own kind: of the CPU, of cuDNN and cuBLAS. (The
last is what becomes of a convolution where there is no room for any of cuDNN's workspaces.)"""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(words in said for words in _OUT_OF_MEMORY)


def told(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def out_of_memory_explained(data: SvcDataModule) -> Iterator[None]:
    """Say what to do where training runs out of memory.

    Raises:
        UserError: in place of the error of the device, or of the CPU's allocator.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        if any(frame.f_code.co_name == "validation_step" for frame in frames):
            where = "in a validation"
            smaller = "data.valid_batch_size or data.valid_crop_frames"
        else:
            where = f"with data.batch_size={data.batch_size}"
            smaller = "data.batch_size"
        raise UserError(
            f"Out of memory {where} ({told(error)}). Look whether other programs take memory of "
            f"the same device. What the last checkpoint holds is kept: continue with a smaller "
            f"{smaller}, resume=auto and resume.allow_changes=true. {SMALLER_STEPS}"
        ) from error
