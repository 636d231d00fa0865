"""DiffSVC: one evaluation of the denoiser, a whole sampling and a training step, each precision in
a process of its own."""

import json
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.figures import Figure, Options, Section, figure, timed
from benchmarks.machine import precisions
from benchmarks.process import arguments_here, in_a_process

EVALUATION_TARGETS = {"fp32": 9.0, "bf16": 4.0}
SAMPLING_TARGETS = {"fp32": 190.0, "bf16": 90.0}
STEP_TARGETS = {"fp32": 380.0, "bf16": 170.0}
MEMORY_TARGET_GIB = 1.0
EVALUATION_GFLOP_PER_S = 8.2
"""Of the denoiser per second of audio, with the projections of the condition, which are a tenth and
needed once only."""
STEP_BATCH, STEP_FRAMES, STEP_GFLOP = 4, 256, 293.0
SAMPLING_S = 20.0
EVALUATION_S = 10.0
CONTENT_CHANNELS = 256
LIGHTNING_NAMES = {"fp32": "32-true", "bf16": "bf16-mixed"}


def measure(options: Options) -> Section:
    """Costs per second of audio, memory, and the cost of a step, in each precision."""
    sampling_s = min(SAMPLING_S, max(options.durations_s))
    figures: list[Figure] = []
    for precision in precisions():
        figures += _sampling_figures(precision, sampling_s, options.repeats)
        figures.append(_step_figure(precision, options.repeats))
    return {
        "settings": "arch=diffsvc with random weights: a denoiser of 20 x 512 channels (55 M "
        f"parameters), 256 condition channels. One evaluation of {EVALUATION_S:g} s with the "
        f"condition prepared; {sampling_s:g} s sampled from conditioning to mel with the default "
        "sampler, everything included but the vocoder, per second of audio; memory beyond what the "
        f"process held with all weights loaded; a training step at batch {STEP_BATCH} x "
        f"{STEP_FRAMES} frames with the real trainer, clipping, AdamW and moving average.",
        "figures": figures,
    }


def _sampling_figures(precision: str, sampling_s: float, repeats: int) -> list[Figure]:
    found = in_a_process("diffusion", "sampling", precision, str(sampling_s), str(repeats))
    evaluations = found["evaluations"]
    return [
        timed(
            f"one evaluation, {precision}",
            min(found["evaluation_seconds"]) / EVALUATION_S,
            EVALUATION_GFLOP_PER_S,
            precision,
            at_most=EVALUATION_TARGETS[precision],
        ),
        timed(
            f"sampling of {sampling_s:g} s, {evaluations} evaluations, {precision}",
            min(found["sampling_seconds"]) / sampling_s,
            evaluations * EVALUATION_GFLOP_PER_S,
            precision,
            at_most=SAMPLING_TARGETS[precision],
        ),
        figure(
            f"memory beyond the weights, {sampling_s:g} s, {precision}",
            found["peak_gib"],
            "GiB",
            at_most=MEMORY_TARGET_GIB,
        ),
    ]


def _step_figure(precision: str, steps: int) -> Figure:
    found = in_a_process("diffusion", "step", precision, str(steps))
    return timed(
        f"training step, {precision}",
        min(found["seconds"]),
        STEP_GFLOP,
        precision,
        at_most=STEP_TARGETS[precision],
        median_seconds=round(statistics.median(found["seconds"]), 4),
        gflop_computed=round(found["gflop"], 1),
        peak_gib=round(found["peak_gib"], 2),
    )


def _sample(precision: str, sampling_s: float, repeats: int) -> dict[str, Any]:
    """Times of an evaluation and of a whole sampling, and the memory of the first sampling."""
    import torch

    from benchmarks.machine import best_seconds
    from benchmarks.steps import random_batch
    from svc.audio.spec import AudioSpec
    from svc.config.instantiate import build
    from svc.memory import peak_memory_gib, resident_bytes

    singer, sampler = _parts()
    singer.eval().requires_grad_(False)
    frames = round(sampling_s * AudioSpec().frame_rate_hz)
    conditioning = random_batch(1, frames, CONTENT_CHANNELS).conditioning()
    sampler = build(sampler)
    seconds: list[float] = []
    before_gib = resident_bytes() / 2**30
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, precision == "bf16"):
        for _ in range(repeats):
            seconds.append(
                best_seconds(lambda: singer.predict_mel(conditioning, sampler), 1, warm_up=0)
            )
        peak_gib = peak_memory_gib() - before_gib
        # As in a sampling: the weights laid out once.
        with singer.denoiser.backbone.inference_weights.kept():
            evaluation = best_seconds(_evaluation(singer), repeats)
    return {
        "evaluations": len(sampler.times),
        "sampling_seconds": seconds,
        "evaluation_seconds": [evaluation],
        "peak_gib": peak_gib,
    }


def _evaluation(singer: Any) -> Callable[[], object]:
    import torch

    from svc.audio.spec import AudioSpec

    frames = round(EVALUATION_S * AudioSpec().frame_rate_hz)
    denoiser = singer.denoiser
    x, condition = torch.randn(1, denoiser.mel_bins, frames), torch.randn(1, 256, frames)
    prepared, time = denoiser.prepare(condition), torch.tensor([500.0])
    return lambda: denoiser(x, time, prepared)


def _train(precision: str, steps: int) -> dict[str, Any]:
    from functools import partial

    import torch

    from benchmarks.steps import random_batch, run_steps
    from svc.audio.spec import AudioSpec
    from svc.config.instantiate import build
    from svc.training.mel_singer import MelSingerModule

    singer, sampler = _parts()
    module = MelSingerModule(
        singer,
        AudioSpec(),
        optimizer=partial(torch.optim.AdamW, lr=2e-4, fused=True),
        sampler=build(sampler),
    )
    batch = random_batch(STEP_BATCH, STEP_FRAMES, CONTENT_CHANNELS)
    clock = run_steps(module, batch, LIGHTNING_NAMES[precision], steps)  # type: ignore[arg-type]
    return {"seconds": clock.seconds, "gflop": clock.gflop, "peak_gib": clock.peak_gib}


def _parts() -> tuple[Any, dict[str, Any]]:
    """The singer of arch=diffsvc, and the settings of its sampler."""
    from benchmarks.configuration import composed
    from svc.config.instantiate import build

    config = composed("train", "arch=diffsvc")
    conditioner = {"content_channels": CONTENT_CHANNELS, "speakers": 2}
    singer = build(config["arch"]["generator"], conditioner=conditioner)
    sampler: dict[str, Any] = config["sampler"]
    return singer, sampler


def main() -> None:
    """In a fresh process: THREADS sampling PRECISION SECONDS REPEATS, or THREADS step PRECISION
    STEPS -> one line of JSON."""
    work, precision, *numbers = arguments_here()
    if work == "sampling":
        print(json.dumps(_sample(precision, float(numbers[0]), int(numbers[1]))))
    else:
        print(json.dumps(_train(precision, int(numbers[0]))))


if __name__ == "__main__":
    main()
