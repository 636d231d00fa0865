"""Training steps through the real trainer, on a batch that lies on the device."""

import tempfile
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.configuration import composed
from benchmarks.steps import again_and_again, quieten_lightning, random_batch, work_counter
from gpu_checks.cases import PRECISIONS, Case, Size
from gpu_checks.kernels import KernelTimes
from gpu_checks.rates import synchronise
from svc.audio.spec import AudioSpec
from svc.config.instantiate import build
from svc.data.batch import Batch
from svc.training.trainer import build_trainer

CONTENT_CHANNELS = 256
PROFILED_STEPS = 2
LAST_STEPS = 5
"""Whose mean losses stand for the end of a run."""


class StepRecord(Callback):
    """Times steps in blocks, keeps the losses of each, and then profiles or counts further ones.

    Args:
        size: how many steps.
        kernels: profiles two steps more, where wanted.
        count_flop: counts the work of the last one.
    """

    def __init__(self, size: Size, kernels: KernelTimes | None, count_flop: bool) -> None:
        self.size = size
        self.kernels = kernels
        self.losses: list[dict[str, torch.Tensor]] = []
        self.block_s: list[float] = []
        self.first_steps_s = 0.0
        self.peak_bytes = self.reserved_bytes = 0
        self.gflop = 0.0
        self._counter = work_counter() if count_flop else None
        self._marks = {
            "start": size.warm_up,
            "middle": size.warm_up + size.timed // 2,
            "end": size.warm_up + size.timed,
        }
        self._profile_end = self._marks["end"] + (PROFILED_STEPS if kernels else 0)
        self.steps = self._profile_end + 1  # at whose start the last block ends

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to what the module says of its steps, without waiting for the device."""
        close: Any = pl_module.close_step

        def listen(metrics: Any, results: Any) -> None:
            kept = {name: value.detach() for name, value in metrics.items()}
            for name, result in results.items():
                if result is not None:
                    kept[f"grad_norm/{name}"] = result.gradient_norm.detach()
            self.losses.append(kept)
            close(metrics, results)

        pl_module.close_step = listen  # type: ignore[assignment]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start a clock, the profiler or the counter where it is time."""
        device = pl_module.device
        if batch_idx == 0:
            self._started_s = time.perf_counter()
        if batch_idx == self._marks["start"]:
            synchronise(device)
            self.first_steps_s = time.perf_counter() - self._started_s
            self._started_s = time.perf_counter()
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
        if batch_idx in (self._marks["middle"], self._marks["end"]):
            synchronise(device)
            now_s = time.perf_counter()
            self.block_s.append(now_s - self._started_s)
            self._started_s = now_s
            if device.type == "cuda":
                self.peak_bytes = torch.cuda.max_memory_allocated(device)
                self.reserved_bytes = torch.cuda.max_memory_reserved(device)
        if self.kernels is not None and batch_idx == self._marks["end"]:
            self.kernels.start()
        if self._counter is not None and batch_idx == self._profile_end:
            self._counter.__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the profiler or the counter."""
        if self.kernels is not None and batch_idx == self._profile_end - 1:
            synchronise(pl_module.device)
            self.kernels.stop(PROFILED_STEPS)
        if self._counter is not None and batch_idx == self._profile_end:
            self._counter.__exit__(None, None, None)
            self.gflop = self._counter.get_total_flops() / 1e9


def run_case(
    case: Case,
    size: Size,
    device: torch.device,
    *,
    profile: bool = False,
    count_flop: bool = False,
    cudnn_benchmark: bool = True,
) -> dict[str, Any]:
    """-> figures of a training, and its first and last losses."""
    quieten_lightning()
    torch.manual_seed(0)
    precision = PRECISIONS[case.precision]
    module = training_module(case.arch, size)
    batch = random_batch(size.batch, size.frames[case.arch], CONTENT_CHANNELS).to(device)
    record = StepRecord(size, KernelTimes(device) if profile else None, count_flop)
    compiling = {"off": False, "default": True}.get(case.compile, case.compile)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            run_dir=folder,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            precision=precision.lightning,  # type: ignore[arg-type]
            max_steps=-1,
            compile=compiling,  # type: ignore[arg-type]
            tf32=precision.tf32,
            benchmark=cudnn_benchmark,
            callbacks=[record],
        )
        trainer.fit_loop.max_epochs = 1
        trainer.fit(module, train_dataloaders=again_and_again(batch, record.steps))
    settings = {"status": "done", "cudnn_benchmark": cudnn_benchmark}
    return {**case.as_dict(), **settings, **_figures(record, module, batch, size)}


def training_module(arch: str, size: Size) -> Any:
    """The Lightning module that `svc-train arch=…` trains, with random weights."""
    config = composed("train", "trainer=gpu_fp32", *size.overrides[arch])
    conditioner = {"content_channels": CONTENT_CHANNELS, "speakers": 2}
    node = dict(config["arch"])
    generator = build(node.pop("generator"), conditioner=conditioner)
    without_zeros(generator)
    return build(
        node,
        generator=generator,
        audio=AudioSpec(),
        optimizer=build(config["optim"]),
        scheduler=None,
    )


def _figures(record: StepRecord, module: Any, batch: Batch, size: Size) -> dict[str, Any]:
    steps = size.timed
    step_s = sum(record.block_s) / steps
    halves = [seconds / (steps / 2) for seconds in record.block_s]
    audio_s = batch.audio.shape[0] * batch.audio.shape[-1] / AudioSpec().sample_rate_hz
    losses = [{name: float(value) for name, value in step.items()} for step in record.losses]
    figures = {
        "batch": batch.audio.shape[0],
        "frames": batch.content.shape[1],
        "parameters": sum(parameter.numel() for parameter in module.parameters())
        - sum(parameter.numel() for parameter in module.ema.parameters()),
        "step_s": round(step_s, 5),
        "step_s_halves": [round(value, 5) for value in halves],
        "steps_per_s": round(1 / step_s, 3),
        "audio_s_per_s": round(audio_s / step_s, 1),
        "first_steps_s": round(record.first_steps_s, 1),
        "peak_gib": round(record.peak_bytes / 2**30, 2),
        "reserved_gib": round(record.reserved_bytes / 2**30, 2),
        "skipped_steps": module.progress.skipped_steps,
        "first_losses": losses[0],
        "last_losses": _means(losses[: size.warm_up + size.timed][-LAST_STEPS:]),
        "graphs": compiled_graphs(),
    }
    if record.gflop:
        figures["gflop"] = round(record.gflop, 1)
    if record.kernels is not None:
        figures["kernels"] = record.kernels.table()
    return figures


def compiled_graphs() -> dict[str, Any]:
    """What torch.compile made, and where it gave up."""
    from torch._dynamo.utils import counters

    unique = counters["stats"].get("unique_graphs", 0)
    breaks = {str(reason)[:200]: count for reason, count in counters["graph_break"].items()}
    return {"compiled": unique, "breaks": breaks}


def without_zeros(network: torch.nn.Module) -> None:
    """Give weights that begin as zeros, such as a denoiser's last, small random values: they would
    hide whatever comes before them."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=rng))


def _means(steps: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(step[name] for step in steps) / len(steps) for name in steps[-1]}
