"""Steps of the model that the demo trains, before and after its discriminators join in."""

import statistics
from typing import Any

import torch

from benchmarks.configuration import composed
from benchmarks.figures import Options, Section, figure
from benchmarks.steps import random_batch, run_steps
from svc.config.instantiate import build


def measure(options: Options) -> Section:
    """Median step time with the batch of the experiment."""
    config = composed("train", "experiment=demo")
    content_channels = int(build(config["content"]).channels)
    data = config["data"]
    batch = random_batch(data["batch_size"], data["crop_frames"], content_channels)
    figures = []
    for name, start_step in (("without discriminators", 10**9), ("with discriminators", 0)):
        module = _module(config, content_channels, start_step)
        clock = run_steps(module, batch, "32-true", options.repeats * options.steps_per_repeat)
        seconds = statistics.median(clock.seconds)
        figures.append(
            figure(
                f"steps per second {name}",
                1 / seconds,
                "steps/s",
                median_seconds=round(seconds, 5),
                best_seconds=round(min(clock.seconds), 5),
                gflop_computed=round(clock.gflop, 2),
            )
        )
    return {
        "settings": f"experiment=demo: batch {data['batch_size']} x {data['crop_frames']} frames, "
        f"{config['arch']['render_frames']} of them rendered, fp32; medians.",
        "figures": figures,
    }


def _module(config: dict[str, Any], content_channels: int, start_step: int) -> Any:
    torch.manual_seed(0)
    return build(
        config["arch"],
        generator={
            "conditioner": {
                "content_channels": content_channels,
                "speakers": config["dataset"]["singers"],
            }
        },
        adversarial={"start_step": start_step},
        audio=build(config["audio"]),
        optimizer=build(config["optim"]),
    )
