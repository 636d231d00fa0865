"""Pictures of a dataset: which pitches each speaker sings, and how the recordings compare."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from svc.doctor.frames import FRAME_S
from svc.doctor.measures import HISTOGRAM_SEMITONES, LOWEST_HISTOGRAM_MIDI
from svc.doctor.recordings import Examined
from svc.doctor.verdict import SpeakerSummary
from svc.evaluation.plots import save_figure

MAX_SPEAKERS = 16
"""As many histograms as a page can hold; the JSON has the others."""
_COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8d5a97", "#b8860b", "#555555", "#17a2a2", "#e07b39")
_COLUMNS = 2
_TICKS_HZ = (65.4, 130.8, 261.6, 523.3, 1046.5)
"""The Cs."""


def plot_f0_histograms(path: Path, speakers: Sequence[SpeakerSummary]) -> None:
    """How long every speaker sings which pitch.

    Args:
        path: of the PNG.
        speakers: at most `MAX_SPEAKERS` of them are drawn.
    """
    shown = speakers[:MAX_SPEAKERS]
    rows = math.ceil(len(shown) / _COLUMNS)
    figure = Figure(figsize=(10, 2.0 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, min(_COLUMNS, len(shown)), sharex=True, squeeze=False).ravel()
    notes = LOWEST_HISTOGRAM_MIDI + np.arange(HISTOGRAM_SEMITONES)
    for index, (axis, speaker) in enumerate(zip(axes, shown, strict=False)):
        seconds = np.array(speaker.f0_histogram) * FRAME_S
        axis.bar(notes, seconds, width=0.9, color=_COLOURS[index % len(_COLOURS)])
        span = f", {speaker.f0_low_hz:.0f} to {speaker.f0_high_hz:.0f} Hz"
        axis.set_title(
            speaker.speaker + (span if speaker.f0_low_hz else ", nothing voiced"),
            loc="left",
            fontsize=10,
        )
        axis.set_ylabel("seconds")
        axis.grid(axis="y", alpha=0.25)
        axis.set_xticks(
            [69 + 12 * math.log2(hz / 440) for hz in _TICKS_HZ], [f"{hz:.0f}" for hz in _TICKS_HZ]
        )
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    for axis in axes[max(0, len(shown) - _COLUMNS) : len(shown)]:
        axis.set_xlabel("F0 in Hz")
        axis.tick_params(labelbottom=True)
    save_figure(figure, path)


def plot_recordings(path: Path, files: Sequence[Examined]) -> None:
    """Level and noise, bandwidth, and pitch doubts of every recording, speaker by speaker.

    Args:
        path: of the PNG.
        files: in the order in which they are drawn.
    """
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    level, reach, doubt = figure.subplots(3, 1, sharex=True)
    speakers = list(dict.fromkeys(file.recording.speaker for file in files))
    start = 0
    middles = []
    for index, speaker in enumerate(speakers):
        own = [file for file in files if file.recording.speaker == speaker]
        at = start + np.arange(len(own))
        colour = _COLOURS[index % len(_COLOURS)]
        noise = [math.nan if f.noise_floor_db is None else f.noise_floor_db for f in own]
        doubts = [math.nan if f.disagreement is None else 100 * f.disagreement for f in own]
        first = index == 0
        level.plot(at, [f.level_db for f in own], "o", ms=3.5, color=colour)
        level.plot(at, noise, "v", ms=3.5, color=colour, alpha=0.6)
        if first:
            level.plot([], [], "o", ms=3.5, color="#555555", label="voice")
            level.plot([], [], "v", ms=3.5, color="#555555", label="noise")
        reach.plot(at, [f.bandwidth.bandwidth_hz / 1000 for f in own], "o", ms=3.5, color=colour)
        doubt.plot(at, doubts, "o", ms=3.5, color=colour)
        middles.append(start + (len(own) - 1) / 2)
        start += len(own)
        for axis in (level, reach, doubt):
            axis.axvline(start - 0.5, color="#cccccc", linewidth=0.7)
    level.set_ylabel("level in dBFS")
    level.legend(fontsize=8, frameon=False, ncols=2, loc="upper left", bbox_to_anchor=(0, 1.2))
    reach.set_ylabel("bandwidth in kHz")
    reach.set_ylim(0, 22.5)
    doubt.set_ylabel("trackers differ, %")
    doubt.set_ylim(bottom=0)
    for axis in (level, reach, doubt):
        axis.grid(axis="y", alpha=0.25)
    named = len(speakers) <= MAX_SPEAKERS
    doubt.set_xticks(middles if named else [], speakers if named else [], rotation=20, ha="right")
    doubt.set_xlabel("recordings, by speaker")
    save_figure(figure, path)
