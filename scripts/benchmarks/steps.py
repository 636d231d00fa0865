"""Training steps through the real trainer, on one batch in memory."""

import logging
import tempfile
import time
import warnings
from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.batch import Batch
from svc.memory import peak_memory_gib
from svc.training.hifisinger import HifiSingerModule
from svc.training.trainer import build_trainer

WARM_UP_STEPS = 2


class StepClock(Callback):
    """Times each step after the warm-up; then counts the work of one more.

    Args:
        timed_steps: how many.
    """

    def __init__(self, timed_steps: int) -> None:
        self.timed_steps = timed_steps
        self.seconds: list[float] = []
        self.peak_gib = 0.0
        self.gflop = 0.0
        self._counter = work_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, index: int) -> None:
        """Start the clock, or the counter."""
        if index == WARM_UP_STEPS + self.timed_steps:
            self.peak_gib = peak_memory_gib()
            self._counter.__enter__()
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Note the time, or the count."""
        if index == WARM_UP_STEPS + self.timed_steps:
            self._counter.__exit__(None, None, None)
            self.gflop = self._counter.get_total_flops() / 1e9
        elif index >= WARM_UP_STEPS:
            self.seconds.append(time.perf_counter() - self._start)


def work_counter() -> FlopCounterMode:
    """Counts the floating-point operations of training steps."""
    backward = {torch.ops.aten.convolution_backward: convolution_backward_flop}
    counter = FlopCounterMode(display=False, custom_mapping=backward)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    return counter


class _NoModules:
    """Spares the counter its hooks on modules: they refuse the gradient at the generated audio,
    which a training step takes with `torch.autograd.grad`."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def run_steps(
    module: HifiSingerModule,
    batch: Batch,
    precision: Literal["32-true", "bf16-mixed"],
    timed_steps: int,
) -> StepClock:
    """Train on the CPU on the same batch again and again."""
    quieten_lightning()
    clock = StepClock(timed_steps)
    steps = WARM_UP_STEPS + timed_steps + 1
    loader = again_and_again(batch, steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            run_dir=folder,
            accelerator="cpu",
            precision=precision,
            max_steps=steps,
            callbacks=[clock],
        )
        trainer.fit(module, train_dataloaders=loader)
    return clock


def quieten_lightning() -> None:
    """Its tips and warnings are about runs that are meant to learn something."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def again_and_again(batch: Batch, steps: int) -> DataLoader[Batch]:
    """A loader that gives the same batch in memory so many times."""
    return DataLoader([batch] * steps, batch_size=None, collate_fn=_as_it_is)


def random_batch(size: int, frames: int, content_channels: int, seed: int = 0) -> Batch:
    """Noise and a gliding pitch with unvoiced frames, in the shapes of a real batch."""
    spec, rng = AudioSpec(), torch.Generator().manual_seed(seed)
    audio = 0.1 * torch.randn(size, frames * spec.hop_samples, generator=rng)
    return Batch(
        content=torch.randn(size, frames, content_channels, generator=rng),
        f0_hz=torch.linspace(110, 440, frames).repeat(size, 1),
        voiced=torch.rand(size, frames, generator=rng) < 0.8,
        energy=torch.full((size, frames), 0.1),
        mel=MelSpectrogram(spec)(audio),
        audio=audio[:, None],
        lengths_frames=torch.full((size,), frames),
        speaker=torch.zeros(size, dtype=torch.int64),
        key_shift_semitones=torch.zeros(size),
    )


def convolution_backward_flop(
    grad_shape: list[int],
    x_shape: list[int],
    weight_shape: list[int],
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    output_mask: list[bool],
    out_shape: Any = None,
    **_: Any,
) -> int:
    """Each gradient of a convolution takes as many operations as the convolution itself.

    torch's own formula overcounts the weight gradients of grouped convolutions.
    """
    forward = conv_flop_count(x_shape, weight_shape, grad_shape, transposed)
    return forward * sum(map(bool, output_mask[:2]))


def _as_it_is(batch: Batch) -> Batch:
    return batch
