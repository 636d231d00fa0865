"""A training step of the predecessor's networks, each precision in a process of its own."""

import json
import statistics
from functools import partial

from benchmarks.figures import Figure, Options, Section, figure, timed
from benchmarks.machine import precisions
from benchmarks.process import arguments_here, in_a_process

COST_TARGETS = {"fp32": 2600.0, "bf16": 1300.0}
MEMORY_TARGET_GIB = 4.0
LIGHTNING_NAMES = {"fp32": "32-true", "bf16": "bf16-mixed"}


def measure(options: Options) -> Section:
    """Best and median step, peak memory, and the work that our step does."""
    figures = [entry for name in precisions() for entry in _measure(name, options.repeats)]
    return {
        "settings": "Conditioner and NSF-HiFiGAN with 256 input channels, without WaveNet (14.9 M "
        "parameters with a 1x1 mel head for the loss at the bottleneck), MPD with periods 2, 3, "
        "5, 7, 11, 17, 23, MSD with 3 scales; batch 4 x 32 frames (16384 samples); the real "
        "trainer and HifiSingerModule with all losses, clipping, AdamW and moving average.",
        "figures": figures,
    }


def _measure(precision: str, steps: int) -> list[Figure]:
    measured = in_a_process("training_step", precision, str(steps))
    from benchmarks.networks import STEP_GFLOP

    return [
        timed(
            f"training step, {precision}",
            min(measured["seconds"]),
            STEP_GFLOP,
            precision,
            at_most=COST_TARGETS[precision],
            median_seconds=round(statistics.median(measured["seconds"]), 4),
            gflop_computed=round(measured["gflop"], 1),
            generator_parameters=measured["generator_parameters"],
        ),
        figure(
            f"peak memory of the process, {precision}",
            measured["peak_gib"],
            "GiB",
            at_most=MEMORY_TARGET_GIB,
        ),
    ]


def main() -> None:
    """In a fresh process: THREADS PRECISION STEPS -> one line of JSON."""
    import torch

    from benchmarks.networks import (
        CHANNELS,
        STEP_BATCH,
        STEP_FRAMES,
        PredecessorSinger,
        predecessor_discriminators,
    )
    from benchmarks.steps import random_batch, run_steps
    from svc.audio.spec import AudioSpec
    from svc.training.hifisinger import HifiSingerModule

    precision, steps = arguments_here()
    generator = PredecessorSinger()
    module = HifiSingerModule(
        generator,  # type: ignore[arg-type]
        predecessor_discriminators(),
        AudioSpec(),
        optimizer=partial(torch.optim.AdamW, lr=2e-4, betas=(0.8, 0.99), fused=True),
    )
    batch = random_batch(STEP_BATCH, STEP_FRAMES, CHANNELS)
    clock = run_steps(module, batch, LIGHTNING_NAMES[precision], int(steps))  # type: ignore[arg-type]
    result = {
        "seconds": clock.seconds,
        "peak_gib": clock.peak_gib,
        "gflop": clock.gflop,
        "generator_parameters": sum(p.numel() for p in generator.parameters()),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
