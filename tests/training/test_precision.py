"""Training under autocast on a CPU: two hundred steps against the same in fp32, and loss scales."""

import csv
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from svc.models.sine_source import SineSource
from svc.training.losses.spectral import MultiResolutionSpectralLoss
from svc.training.network_module import NetworkModule
from svc.training.runs import fit
from training import tiny_mel_singer, tiny_training
from training.tiny_training import TinyData, make_batch, tiny_trainer

pytestmark = pytest.mark.slow

STEPS = 200
BATCHES = 4
WINDOW_LINES = 20
"""A line of metrics is written after every second step."""
NEVER_OVERFLOWS = 64.0
ALWAYS_OVERFLOWS = 2.0**40
"""Loss scales; the tiny models' gradients lie between."""

Parts = SineSource | MultiResolutionSpectralLoss | nn.Conv1d | nn.Conv2d


class Types(Callback):
    """The types that come out of parts of the networks in the steps of training."""

    def __init__(self) -> None:
        self.found: dict[str, set[torch.dtype]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: NetworkModule) -> None:
        for part in pl_module.modules():
            if isinstance(part, Parts):
                part.register_forward_hook(self._note)

    def _note(self, part: nn.Module, inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            name = "convolution" if isinstance(part, nn.Conv1d | nn.Conv2d) else type(part).__name__
            tensors = [output] if isinstance(output, Tensor) else [output.mel, output.stft]
            self.found.setdefault(name, set()).update(tensor.dtype for tensor in tensors)


class Scales(Callback):
    """Begins with other loss scales than usual, and lets them grow soon."""

    def __init__(self, growth_interval: int, **scales: float) -> None:
        self.growth_interval, self.scales = growth_interval, scales

    def on_train_start(self, trainer: Trainer, pl_module: NetworkModule) -> None:
        for name, update in pl_module._updates.items():
            if update.scaler.is_enabled():
                state = update.scaler.state_dict()
                state |= {"growth_interval": self.growth_interval, "scale": self.scales[name]}
                update.scaler.load_state_dict(state)


class Run:
    """What became of a training in one precision."""

    def __init__(
        self, folder: Path, arch: str, precision: str, scales: Scales, steps: int = STEPS
    ) -> None:
        data = TinyData()
        data.replace = {k: make_batch(k % BATCHES) for k in range(2 * STEPS)}
        if arch == "hifisinger":
            self.module: NetworkModule = tiny_training.tiny_module(scheduler=None)
        else:
            self.module = tiny_mel_singer.tiny_module(arch)
        self.types = Types()
        trainer = tiny_trainer(
            *(folder, steps, [self.types, scales]),
            validate_every_steps=steps,
            save_every_steps=steps,
            precision=precision,
            loggers=[CSVLogger(folder, name="", version="")],
        )
        fit(trainer, self.module, data)
        assert trainer.global_step == steps
        assert all(bool(value.isfinite().all()) for value in self.module.parameters())
        with (folder / "metrics.csv").open() as file:
            self.rows = [row for row in csv.DictReader(file) if row["skipped_steps"]]

    def values(self, name: str) -> list[float]:
        """Of a metric that is finite in every line."""
        values = [float(row[name]) for row in self.rows]
        assert all(map(math.isfinite, values)), name
        return values

    def smoothed(self, name: str) -> list[float]:
        """Means over forty steps."""
        values = self.values(name)
        starts = range(0, len(values), WINDOW_LINES)
        return [sum(values[k : k + WINDOW_LINES]) / WINDOW_LINES for k in starts]


@pytest.mark.parametrize(
    ("arch", "tolerances"),
    [
        (
            "hifisinger",
            {"train_loss_gen/mel": 0.05, "train_loss_gen": 0.05, "train_loss_disc": 0.05},
        ),
        ("diffusion", {"train_loss": 0.05}),
    ],
)
def test_losses_are_those_of_fp32(tmp_path: Path, arch: str, tolerances: dict[str, float]) -> None:
    """The tolerances are shares of the loss. Runs in fp32 whose weights begin a millionth apart
    differ by 2 %."""
    few = Scales(10 * STEPS, generator=NEVER_OVERFLOWS, discriminator=NEVER_OVERFLOWS)
    exact = Run(tmp_path / "32-true", arch, "32-true", few)
    learnt = exact.smoothed(next(iter(tolerances)))
    assert learnt[-1] < 0.8 * learnt[0]
    for precision, dtype in (("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)):
        run = Run(tmp_path / precision, arch, precision, few)
        assert run.values("skipped_steps")[-1] == 0
        for name, tolerance in tolerances.items():
            assert run.smoothed(name) == pytest.approx(exact.smoothed(name), rel=tolerance), name
        assert run.types.found["convolution"] == {dtype}
        if arch == "hifisinger":
            assert run.types.found["SineSource"] == {torch.float32}
            assert run.types.found["MultiResolutionSpectralLoss"] == {torch.float32}


def test_each_network_finds_its_own_loss_scale(tmp_path: Path) -> None:
    """The generator's begins too high, the discriminators' low; both grow where all is well."""
    scales = Scales(15, generator=ALWAYS_OVERFLOWS, discriminator=NEVER_OVERFLOWS)
    run = Run(tmp_path, "hifisinger", "16-mixed", scales, steps=60)
    generator, discriminator = (
        run.values(f"loss_scale/{name}") for name in ("generator", "discriminator")
    )
    # Halved at every skipped step before the first line.
    skipped = run.values("skipped_steps")
    assert generator[0] == ALWAYS_OVERFLOWS / 2 ** skipped[0]
    assert skipped[0] > 10
    assert skipped[-1] == run.module.progress.skipped_steps < skipped[0] + 10
    assert discriminator[0] > NEVER_OVERFLOWS  # it grew meanwhile
    assert any(later > earlier for earlier, later in pairwise(generator))
