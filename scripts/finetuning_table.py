#!/usr/bin/env python
"""What fine-tuning brings: three synthetic singers are learnt, then a fourth from 60 s of material
by training from scratch, fine-tuning all weights, and LoRA.

Runs the commands that a user would type, in the folder that it is called from, and writes
outputs/finetuning/. Training goes on in segments; after each, held-out phrases are converted and
compared with the exact truth. CPU seconds are those of the training command without its start-up.
What was finished with the same settings is kept, so that a killed run goes on where it was.
`--fast` takes a few steps of everything, to try the machinery.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from svc.audio.spec import AudioSpec
from svc.evaluation.finetuning import (
    HeldOutPhrases,
    Point,
    WayResult,
    write_recordings,
    write_results,
)
from svc.inference.converter import Converter

OUTPUT = Path("outputs/finetuning")
RECORDINGS = OUTPUT / "recordings"
TARGET_SINGER, SECONDS = "sofia_soprano", 60.0
PHRASES_PER_SOURCE = 2
SCRATCH_SEGMENTS = (20, 80, 160, 320, 480, 640, 800)
FINER_SEGMENTS = (1, 5, 10, 20, 40, 80, 160, 320, 480, 640, 800)
TUNING_SEGMENTS = (1, 5, 10, 20, 40, 60, 80, 100, 150, 200)
FAST_SEGMENTS = (1, 2)
RESULT = "finetuning_table.json"


@dataclass(frozen=True)
class Way:
    """How the new singer is learnt, and what file is left."""

    name: str
    settings: str
    overrides: tuple[str, ...]
    segments: tuple[int, ...]
    """Updates after which it is measured."""
    export: str
    """Format of `svc-export`."""

    @property
    def run(self) -> Path:
        """Folder of its training run."""
        return OUTPUT / re.sub(r"[^a-z0-9]+", "_", self.name.lower())


# All of the material is trained on: held-out conversions judge, not a validation.
DATASET = (
    "dataset=folder",
    f"dataset.path={RECORDINGS}",
    "content=mfcc",
    "preparation.valid_files=0",
)
# What the demo learns with, and the same losses for every way: without discriminators, whose
# part would make each step cost 2½ times as much.
COMMON = (
    *DATASET,
    "trainer=cpu",
    "data.batch_size=8",
    "data.crop_frames=128",
    "data.workers=0",
    "data.cache=ram",
    "arch.render_frames=24",
    "arch.adversarial.start_step=1000000",
)


def ways(pretrained: Path) -> tuple[Way, ...]:
    """The three ways, of which the first is gone twice: with the demo's own learning rate, and with
    the best of those that were tried. Fine-tuning has a quarter of the updates."""
    updates, quarter = SCRATCH_SEGMENTS[-1], TUNING_SEGMENTS[-1]
    tuning = (
        "experiment=finetune_hifisinger",
        f"pretrained={pretrained}",
        *COMMON,
        "scheduler.warmup_steps=5",
        f"scheduler.decay_steps={quarter}",
    )
    scratch = ("experiment=demo", *COMMON, f"scheduler.every_steps={2 * updates // 3}")
    lora = ("lora.rank=16", "lora.targets=[conditioner,backbone,mel_projection]")
    return (
        Way(
            "from scratch", "experiment=demo, its lr 1e-3", scratch, SCRATCH_SEGMENTS, "safetensors"
        ),
        Way(
            "from scratch, lr 2e-3",
            "experiment=demo, lr 2e-3",
            (*scratch, "optim.lr=2e-3"),
            FINER_SEGMENTS,
            "safetensors",
        ),
        Way(
            "fine-tuning all",
            "experiment=finetune_hifisinger, lr 4e-3",
            (*tuning, "optim.lr=4e-3"),
            TUNING_SEGMENTS,
            "safetensors",
        ),
        Way(
            "LoRA",
            f"experiment=finetune_hifisinger {' '.join(lora)}, lr 1e-2",
            (*tuning, "optim.lr=1e-2", *lora),
            TUNING_SEGMENTS,
            "adapter",
        ),
    )


def main() -> None:
    """Pretrain, go the three ways, and write table and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="a few steps of everything")
    parser.add_argument(
        "--pretrained", type=Path, help="a run of experiment=demo, to save its time"
    )
    arguments = parser.parse_args()
    pretrained = arguments.pretrained or _pretrained(arguments.fast)
    planned = ways(pretrained / "checkpoints" / "last.ckpt")
    seconds = write_recordings(RECORDINGS, TARGET_SINGER, SECONDS)
    _command("svc-preprocess", *DATASET)
    spec, per_source = AudioSpec(), 1 if arguments.fast else PHRASES_PER_SOURCE
    phrases = HeldOutPhrases(TARGET_SINGER, per_source, spec)
    if arguments.fast:
        planned = tuple(replace(way, segments=FAST_SEGMENTS) for way in planned)
    results = [_kept(way) or _gone(way, phrases) for way in planned]
    print(f"\n{len(phrases.pairs)} held-out phrases into {TARGET_SINGER}, of whom the models had")
    print(f"{seconds:g} s. MCD of the unconverted sources: {phrases.unconverted_mcd_db:.2f} dB\n")
    print(write_results(OUTPUT, results, phrases.unconverted_mcd_db))


def _pretrained(fast: bool) -> Path:
    """The run of a model of three synthetic singers; one that is there is gone on with."""
    run = OUTPUT / ("pretrained_fast" if fast else "pretrained")
    settings = ["debug=fast", "dataset.minutes_per_singer=0.4"] if fast else []
    if (run / "checkpoints" / "last.ckpt").is_file():
        settings.append(f"resume={run}")
    _command("svc-train", "experiment=demo", f"hydra.run.dir={run}", *settings)
    return run


def _kept(way: Way) -> WayResult | None:
    """What came out earlier with the same settings, if anything."""
    file = way.run / RESULT
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if kept.get("way") != json.loads(json.dumps(asdict(way))):
        return None
    result = kept["result"]
    return WayResult(**{**result, "points": tuple(Point(**point) for point in result["points"])})


def _gone(way: Way, phrases: HeldOutPhrases) -> WayResult:
    """Train in segments and measure after each."""
    shutil.rmtree(way.run, ignore_errors=True)
    command = ["svc-train", f"hydra.run.dir={way.run}", *way.overrides]
    checkpoint = way.run / "checkpoints" / "last.ckpt"
    points: list[Point] = []
    spent_s = start_up_s = 0.0
    for step in way.segments:
        resume = [f"resume={way.run}"] if points else []
        spent_s += _command(*command, *resume, f"trainer.max_steps={step}")
        if not points:
            # A continuation that has no step left does nothing but start.
            start_up_s = _command(*command, f"resume={way.run}", f"trainer.max_steps={step}")
        spent_s = max(0.0, spent_s - start_up_s)
        converter = Converter.from_checkpoint(checkpoint, device="cpu")
        points.append(Point(step, spent_s, phrases.mcd_db(converter)))
        print(f"{way.name}: {points[-1]}", flush=True)
    file = OUTPUT / f"{way.run.name}.safetensors"
    exported = (f"checkpoint={checkpoint}", f"output={file}", f"format={way.export}")
    _command("svc-export", *exported, "overwrite=true")
    result = WayResult(way.name, way.settings, tuple(points), way.export, file.stat().st_size)
    kept = {"way": asdict(way), "result": asdict(result)}
    (way.run / RESULT).write_text(json.dumps(kept), encoding="utf-8")
    return result


def _command(*words: str) -> float:
    """Run a command of this environment as a user would; -> CPU seconds. Ends where it fails."""
    print(f"\n$ {shlex.join(words)}", flush=True)
    before_s = _cpu_s_of_children()
    program = Path(sys.executable).with_name(words[0])
    code = subprocess.run([program, *words[1:]], check=False).returncode
    if code:
        sys.exit(code)
    return _cpu_s_of_children() - before_s


def _cpu_s_of_children() -> float:
    """User and system time of every command so far, and of the processes that these started."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
