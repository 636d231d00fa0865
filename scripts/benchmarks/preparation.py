"""Seconds of audio prepared per second and core, reading and writing included."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import soundfile

from benchmarks.figures import Figure, Options, Section, figure
from svc.audio.io import probe
from svc.audio.spec import AudioSpec
from svc.data.demo.source import DemoSource
from svc.data.preparation import prepare
from svc.data.process_pool import available_cores
from svc.data.sources import FolderSource, RecordingSource
from svc.features.content.mfcc import MfccContent
from svc.features.energy.rms import RmsEnergy
from svc.features.pitch.parselmouth import ParselmouthPitch

TARGET = 120.0
HOUR_TARGET_S = 30.0
"""Wall time of an hour of audio on two cores."""


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
            _on_one_core(name, source, Path(folder, "store"), options.repeats)
            for name, source in sources
        ]
        if options.hours is not None and options.recordings is not None:
            copies = FolderSource(
                _repeated(FolderSource(options.recordings), options.hours, Path(folder, "copies"))
            )
            figures.append(_on_all_cores(copies, Path(folder, "store"), options.repeats))
    return {
        "settings": "Everything that svc-preprocess does with files on a warm cache: hashing, "
        "decoding, slicing, parselmouth, RMS, MFCC, atomic writing; workers=1 on one core, storing "
        "mels, or all cores, starting the processes included.",
        "figures": figures,
    }


def _on_one_core(name: str, source: RecordingSource, folder: Path, repeats: int) -> Figure:
    audio_s, seconds, details = _measure(name, source, folder, repeats, workers=1, store_mel=True)
    return figure(
        f"preparation of {name}",
        audio_s / seconds,
        "audio s per s and core",
        at_least=TARGET,
        **details,
    )


def _on_all_cores(source: RecordingSource, folder: Path, repeats: int) -> Figure:
    audio_s, seconds, details = _measure("copies", source, folder, repeats, None, store_mel=False)
    cores = available_cores()
    return figure(
        f"preparation of {audio_s / 3600:.2g} h of real recordings on {cores} cores",
        seconds * 3600 / audio_s,
        "s per h of audio",
        at_most=HOUR_TARGET_S * 2 / cores,
        **details,
    )


def _measure(
    name: str,
    source: RecordingSource,
    folder: Path,
    repeats: int,
    workers: int | None,
    store_mel: bool,
) -> tuple[float, float, dict[str, float]]:
    """Seconds of audio, the least seconds that it took, and details."""
    audio_s = sum(probe(recording.path).duration_s for recording in source.recordings())
    times = []
    for repeat in range(repeats):
        start = time.perf_counter()
        with _one_core() if workers == 1 else nullcontext():
            report = prepare(
                source,
                folder.with_name(f"{name} {repeat}"),
                spec=AudioSpec(),
                content=MfccContent,
                pitch=ParselmouthPitch,
                energy=RmsEnergy,
                store_mel=store_mel,
                workers=workers,
                progress=False,
            )
        times.append(time.perf_counter() - start)
    details = {
        "audio_s": round(audio_s, 1),
        "files": report.extracted_files,
        "skipped_files": len(report.skipped),
        "best_seconds": round(min(times), 3),
    }
    return audio_s, min(times), details


def _repeated(source: RecordingSource, hours: float, folder: Path) -> Path:
    """So many hours of the source's recordings, again and again under other names, each time a
    little quieter: no two files hold the same bytes."""
    recordings = list(enumerate(source.recordings()))
    left_s, count = hours * 3600, 0
    while left_s > 0:
        repeat, (number, recording) = count // len(recordings), recordings[count % len(recordings)]
        audio, rate_hz = soundfile.read(recording.path, dtype="float32")
        audio = audio[: max(round(left_s * rate_hz), rate_hz)] * 0.98**repeat
        copy = folder / recording.speaker / f"{repeat}-{number}-{recording.path.name}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(copy, audio, rate_hz, subtype="PCM_16")
        left_s -= len(audio) / rate_hz
        count += 1
    return folder


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
