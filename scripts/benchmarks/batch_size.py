#!/usr/bin/env python
"""Finds the largest batch of the full-size models on this machine's device, and prints JSON.

    python scripts/benchmarks/batch_size.py                       # arch=hifisinger and diffsvc
    python scripts/benchmarks/batch_size.py hifisinger_tiny --trainer cpu data.crop_frames=16

For each architecture: the batches that were measured, the line through the first two (what a run
is told beforehand), the size that `data.batch_size=auto` takes, and how far the line was off
there. Beside it, how fast crops are gathered on the device, and that they are those of the files.
"""

import argparse
import dataclasses
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.configuration import composed
from benchmarks.crops import RandomContent
from svc.config.instantiate import build
from svc.data.batch import Batch, CropPlaces
from svc.data.data_module import SvcDataModule
from svc.data.demo.source import DemoSource
from svc.data.preparation import prepare
from svc.data.store import FeatureStore
from svc.features.energy.rms import RmsEnergy
from svc.features.pitch.parselmouth import ParselmouthPitch
from svc.memory import keep_freed_memory
from svc.training.batch_size import MemoryLine
from svc.training.devices import choose_trainer
from svc.training.memory_probe import MemoryProbe
from svc.training.preflight import PreflightOptions, find_batch_size

MINUTES = 2.0
GATHERED = 32
"""Crops of a batch whose gathering is timed."""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="architectures, and settings of svc-train")
    parser.add_argument("--trainer", help="option of the group; the one that suits by default")
    parser.add_argument("--most", type=int, default=512, help="largest batch that is tried")
    arguments = parser.parse_intermixed_args()
    settings = [word for word in arguments.words if "=" in word]
    archs = [word for word in arguments.words if "=" not in word] or ["hifisinger", "diffsvc"]
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    keep_freed_memory()
    trainer = arguments.trainer or choose_trainer()
    report: dict[str, Any] = {"trainer": trainer, "torch": torch.__version__}
    if torch.cuda.is_available():
        report["device"] = torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as folder:
        store = _store(Path(folder))
        for arch in archs:
            overrides = [f"trainer={trainer}", f"arch={arch}", *settings]
            report[arch] = _measure(composed("train", *overrides), store, arguments.most)
            print(json.dumps({arch: report[arch]}), file=sys.stderr, flush=True)
    print(json.dumps(report, indent=2))


def _measure(config: dict[str, Any], store: FeatureStore, most: int) -> dict[str, Any]:
    torch.manual_seed(0)
    generator = config["arch"]["generator"]
    shapes: dict[str, Any] = {}
    if "conditioner" in generator:
        channels, speakers = store.content_channels, len(store.speakers)
        shapes["conditioner"] = {"content_channels": channels, "speakers": speakers}
    spec = build(config["audio"])
    module = build(config["arch"], generator=shapes, audio=spec, optimizer=build(config["optim"]))
    data = build(config["data"], store=store, spec=spec, batch_size="auto", cache="device")
    trainer = build(config["trainer"], run_dir="run", callbacks=[], loggers=[])
    data.prepare_for(trainer.strategy.root_device)
    # A short dataset stands for one that is long enough for every batch.
    data.__class__ = _Long
    began = time.perf_counter()
    probe = MemoryProbe(module, data, trainer)
    options = PreflightOptions(max_batch_size=most)
    found = find_batch_size(probe, trainer, data, options)
    seconds = time.perf_counter() - began
    result: dict[str, Any] = {
        "precision": config["trainer"]["precision"],
        "crop_frames": config["data"]["crop_frames"],
        "seconds": round(seconds, 1),
        "budget_gib": _gib(found.budget_bytes),
        "measured_gib": {str(m.batch_size): _gib(m.peak_bytes) for m in found.measured},
        "too_large": probe.too_large,
        "batch_size": found.batch_size,
        "gather": _gathering(data, trainer.strategy.root_device),
    }
    if len(found.measured) >= 2:
        line = MemoryLine.through(found.measured[:2])
        result["line_gib"] = {
            "fixed": _gib(line.fixed_bytes),
            "per_crop": _gib(line.bytes_per_crop),
            "at_batch_size": _gib(line.at(found.batch_size)),
        }
    return result


class _Long(SvcDataModule):
    crops_per_epoch = 10**6  # type: ignore[assignment]


def _gathering(data: SvcDataModule, device: torch.device) -> dict[str, Any]:
    """Milliseconds per batch on the device, and whether it is the batch of the files."""
    places = data.crops(GATHERED)
    assert isinstance(places, CropPlaces)
    files = SvcDataModule(data.store, spec=data.spec, crop_frames=places.frames, workers=0)
    batch = data.to_batch(places.to(device))
    # The mel is made of the audio afterwards, on the device in both cases.
    expected = files.to_batch(files.crops(GATHERED).to(device))
    equal = {
        field.name: torch.equal(getattr(batch, field.name), getattr(expected, field.name))
        for field in dataclasses.fields(Batch)
    }
    repeats = 50
    _wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        data.to_batch(places.to(device))
    _wait(device)
    milliseconds = (time.perf_counter() - began) / repeats * 1000
    return {
        "crops": GATHERED,
        "ms_with_mel": round(milliseconds, 3),
        "differs_from_files": [name for name, same in equal.items() if not same],
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _store(folder: Path) -> FeatureStore:
    source = DemoSource(folder / "voices", singers=2, minutes_per_singer=MINUTES / 2)
    prepare(
        source,
        folder / "store",
        spec=build(composed("train")["audio"]),
        content=RandomContent,
        pitch=ParselmouthPitch,
        energy=RmsEnergy,
        workers=1,
        progress=False,
    )
    return FeatureStore.open(folder / "store")


def _gib(size: float) -> float:
    return round(size / 2**30, 3)


if __name__ == "__main__":
    main()
