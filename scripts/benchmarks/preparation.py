"""Seconds of audio prepared per second and core, reading and writing included."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure, Options, Section, figure
from svc.audio.io import probe
from svc.audio.spec import AudioSpec
from svc.data.demo.source import DemoSource
from svc.data.preparation import prepare
from svc.data.sources import FolderSource, RecordingSource
from svc.features.content.mfcc import MfccContent
from svc.features.energy.rms import RmsEnergy
from svc.features.pitch.parselmouth import ParselmouthPitch

TARGET = 120.0


def measure(options: Options) -> Section:
    """On synthetic singers, and on real recordings where a folder of them is given."""
    with tempfile.TemporaryDirectory() as folder:
        singers = DemoSource(
            Path(folder, "voices"), singers=4, minutes_per_singer=options.audio_minutes / 4
        )
        singers.recordings()  # made here, before the clock starts
        sources: list[tuple[str, RecordingSource]] = [("synthetic singers", singers)]
        if options.recordings is not None:
            sources.append(("real recordings", FolderSource(options.recordings)))
        figures = [
            _measure(name, source, Path(folder, "store"), options.repeats)
            for name, source in sources
        ]
    return {
        "settings": "Everything that svc-preprocess does with files on a warm cache: hashing, "
        "decoding, slicing, parselmouth, RMS, MFCC, mel, atomic writing; workers=1, one core.",
        "figures": figures,
    }


def _measure(name: str, source: RecordingSource, folder: Path, repeats: int) -> Figure:
    audio_s = sum(probe(recording.path).duration_s for recording in source.recordings())
    times = []
    for repeat in range(repeats):
        start = time.perf_counter()
        with _one_core():
            report = prepare(
                source,
                folder.with_name(f"{name} {repeat}"),
                spec=AudioSpec(),
                content=MfccContent,
                pitch=ParselmouthPitch,
                energy=RmsEnergy,
                store_mel=True,
                workers=1,
                progress=False,
            )
        times.append(time.perf_counter() - start)
    return figure(
        f"preparation of {name}",
        audio_s / min(times),
        "audio s per s and core",
        at_least=TARGET,
        audio_s=round(audio_s, 1),
        files=report.extracted_files,
        skipped_files=len(report.skipped),
        best_seconds=round(min(times), 3),
    )


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
