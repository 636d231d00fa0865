"""Training runs as `svc-train` makes them on this CPU, on the demo's singers: speed, memory, the
wait for data, and what callbacks and loggers add. Each run has a process of its own."""

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.crops import RandomContent
from benchmarks.figures import Figure, Options, Section, figure
from benchmarks.machine import precisions
from benchmarks.process import in_a_process
from benchmarks.training_run import prepare, run_settings

WAIT_TARGET_PERCENT = 2.0
OVERHEAD_TARGET_PERCENT = 3.0
TRAINERS = {"cpu": "fp32", "cpu_bf16": "bf16", "debug": "fp32"}
"""Those of a CPU, and their precision."""

_WIDE_CONTENT = f"{RandomContent.__module__}.{RandomContent.__qualname__}"


@dataclass(frozen=True)
class Case:
    """What is trained."""

    name: str
    """In the table."""
    overrides: tuple[str, ...]
    """As typed after svc-train."""
    full_size: bool
    """Trained for fewer steps, on content as wide as that of real encoders."""
    trainers: tuple[str, ...] = ("cpu", "cpu_bf16")


CASES = (
    Case("HiFiSinger", ("arch=hifisinger",), True),
    Case("DiffSVC", ("arch=diffsvc",), True),
    Case("demo, before the discriminators join", ("experiment=demo",), False),
    Case(
        "demo, with discriminators",
        ("experiment=demo", "arch.adversarial.start_step=0"),
        False,
        ("cpu", "cpu_bf16", "debug"),
    ),
    Case("demo_diffsvc", ("experiment=demo_diffsvc",), False, ("cpu", "cpu_bf16", "debug")),
)


def measure(options: Options) -> Section:
    """Every case with every trainer that suits this CPU, then the overhead."""
    with tempfile.TemporaryDirectory() as name:
        stores = _prepared(Path(name), options.audio_minutes / 2)
        figures = [
            entry
            for case in CASES
            for trainer in case.trainers
            if TRAINERS[trainer] in precisions()
            for entry in _figures_of_run(case, trainer, stores, options)
        ]
        rounds, steps = str(2 * options.repeats), str(2 * options.steps_per_repeat)
        figures += _figures_of_overhead(in_a_process("overhead", str(stores[""]), rounds, steps))
    return {"settings": _SETTINGS, "figures": figures}


def _prepared(folder: Path, minutes_per_singer: float) -> dict[str, Path]:
    """Stores of the demo's singers, by content encoder; "" is that of the experiments."""
    stores = {content: folder / f"store{content}" for content in ("", _WIDE_CONTENT)}
    for content, store in stores.items():
        settings = run_settings(
            store,
            folder,
            1,
            "experiment=demo",
            f"dataset.path={folder / 'voices'}",
            f"dataset.minutes_per_singer={minutes_per_singer:g}",
        )
        prepare(settings, content)
    return stores


def _figures_of_run(
    case: Case, trainer: str, stores: dict[str, Path], options: Options
) -> list[Figure]:
    content = _WIDE_CONTENT if case.full_size else ""
    steps = options.repeats * (1 if case.full_size else options.steps_per_repeat)
    where = str(stores[content]), str(steps), content
    run = in_a_process("training_run", *where, *case.overrides, f"trainer={trainer}")
    name = f"{case.name}, trainer={trainer}"
    seconds = statistics.median(run["seconds"])
    return [
        figure(
            name,
            1 / seconds,
            "steps/s",
            seconds=round(seconds, 4),
            best_seconds=round(min(run["seconds"]), 4),
            steps=len(run["seconds"]),
            batch_size=run["batch_size"],
            crop_frames=run["crop_frames"],
            generator_parameters=run["parameters"],
            gflop_computed=round(run["gflop"], 2),
            gflop_per_s_used=round(run["gflop"] / seconds, 2),
            precision=TRAINERS[trainer],
            mels_percent=round(100 * run["mel_s"] / seconds, 2),
        ),
        figure(f"{name}: audio", run["audio_s"] / seconds, "audio s/s"),
        figure(
            f"{name}: waiting for data",
            100 * run["wait_fraction"],
            "%",
            at_most=WAIT_TARGET_PERCENT,
        ),
        figure(
            f"{name}: peak memory, batch {run['batch_size']} x {run['crop_frames']} frames",
            run["peak_gib"],
            "GiB",
        ),
    ]


def _figures_of_overhead(overhead: dict[str, Any]) -> list[Figure]:
    figures = []
    for logger, found in overhead.items():
        name = f"demo, callbacks=default and logger={logger}"
        figures += [
            figure(
                f"{name}: in their hooks",
                100 * found["share"],
                "% of a step",
                at_most=OVERHEAD_TARGET_PERCENT,
                step_ms=found["step_ms"],
                ms_per_step=found["parts_ms"],
            ),
            figure(
                f"{name}: slower than without",
                100 * statistics.median(found["slower"]),
                "% of a step",
                at_most=OVERHEAD_TARGET_PERCENT,
                of_each_round=[round(100 * slower, 2) for slower in found["slower"]],
            ),
        ]
    return figures


_SETTINGS = (
    "The parts that svc-train makes of the settings, real loader and store included, on the demo's "
    "three singers: the architectures in full size (batch 4 x 32 frames), with 256 channels of "
    "random content; the experiments demo (batch 8 x 128, of which 24 frames are rendered) and "
    "demo_diffsvc (16 x 128). All read their data in the training process, data.workers=0. Steps "
    "from end to end, with all that lies between, medians; work as counted by torch; without "
    "validation and checkpoints. The wait is perf/data_wait_fraction of the run's own log, from "
    "the second step on; mels, which a CPU makes itself, are work. Callbacks and loggers: the demo "
    "before its discriminators join, on one batch in memory, a line in the log every 20 steps and "
    "the bar of a terminal; the time that their hooks take, and whole steps against steps without "
    "any, in turns, the median of the rounds."
)
