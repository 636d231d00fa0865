"""From measures to a verdict that somebody who trains a first voice understands.

Every rule is a function of one file, or of one speaker, that says in words what is wrong, how bad
it is, and what to do. The limits and the material they were checked on are in docs/doctor.md.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from svc.doctor.advice import TITLES
from svc.doctor.measures import LOWEST_HISTOGRAM_MIDI, total_histogram
from svc.doctor.recordings import Examination, Examined
from svc.doctor.reverberation import reverberation_s

Verdict = Literal["good", "usable", "fix these first"]
Weight = Literal["fix", "know"]
"""Whether training should wait for it, or it is only good to know."""

_AFFECTED_SHARE = 0.05
"""A finding on less of the material than this does not change the verdict: leaving those files out
costs less than mending them."""
_FILE_DECAYS, _SPEAKER_DECAYS = 8, 4
"""How many ends of notes it takes to believe in the echo of a file, and of all of a speaker's."""
_ROOM_S, _LARGE_ROOM_S = 0.35, 0.45
"""Decay times of rooms of about 0.7 s and 0.9 s (`svc.doctor.reverberation.reverberation_s`)."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a file, a speaker or the dataset."""

    kind: str
    """Short name, the same for all findings of the kind, e.g. "clipped"."""
    weight: Weight
    where: str
    """Name of the file or the speaker."""
    text: str
    """What was measured, in words."""
    seconds: float
    """How much material it concerns."""


@dataclass(frozen=True)
class SpeakerSummary:
    """What one speaker's material amounts to."""

    speaker: str
    files: int
    minutes: float
    singing_minutes: float
    """Without what is silent."""
    level_db: float
    """Median over the files, dB relative to full scale."""
    noise_floor_db: float | None
    """Median over the files in which it can be measured; None where there is none."""
    reverberation_s: float | None
    bandwidth_hz: float
    """Median over the files."""
    silence_share: float
    f0_low_hz: float
    """F0 below which 5 % of the voiced frames lie, to a semitone; 0 where nothing is voiced."""
    f0_high_hz: float
    f0_histogram: tuple[int, ...]
    disagreement: float | None
    """Mean over the files."""


@dataclass(frozen=True)
class Diagnosis:
    """All that is said about a dataset."""

    verdict: Verdict
    sentence: str
    """The verdict in one sentence."""
    findings: tuple[Finding, ...]
    """Those to fix first; within them by the amount of material."""
    speakers: tuple[SpeakerSummary, ...]
    examination: Examination


def diagnose(examination: Examination) -> Diagnosis:
    """Judge a dataset by its measures."""
    findings = [finding for file in examination.files for finding in _file_findings(file)]
    findings += [Finding("unusable", "fix", f.name, f.reason, 0.0) for f in examination.unusable]
    findings += [Finding("too short", "know", f.name, f.reason, 0.0) for f in examination.too_short]
    for pair in examination.duplicates:
        first, second = examination.files[pair.first], examination.files[pair.second]
        text = f"{'equals' if pair.exact else 'is the same recording as'} {first.recording.name}"
        findings.append(Finding("duplicate", "fix", second.recording.name, text, second.duration_s))
    by_speaker: dict[str, list[Examined]] = defaultdict(list)
    for file in examination.files:
        by_speaker[file.recording.speaker].append(file)
    speakers = tuple(_summary(name, files) for name, files in sorted(by_speaker.items()))
    for speaker in speakers:
        findings += _speaker_findings(speaker)
    findings.sort(key=lambda f: (f.weight != "fix", -f.seconds, f.kind, f.where))
    total_s = sum(file.duration_s for file in examination.files)
    verdict = _verdict(findings, total_s)
    return Diagnosis(verdict, _sentence(verdict, findings), tuple(findings), speakers, examination)


def suspects_several_voices(file: Examined) -> bool:
    """Whether partials beside the voice's own and trackers that disagree point the same way.

    Either alone is found in single voices too: echo leaves partials of earlier notes, and quick
    speech splits the trackers.
    """
    share = file.several_voices
    if share is None:
        return False
    return share > 0.09 or (share > 0.045 and (file.disagreement or 0.0) > 0.25)


def _clipped(file: Examined) -> tuple[Weight, str] | None:
    if file.clipped_share <= 1e-5:
        return None
    text = f"{100 * file.clipped_share:.2g} % of the samples are clipped"
    return ("fix" if file.clipped_share > 1e-3 else "know"), text


def _low_rate(file: Examined) -> tuple[Weight, str] | None:
    if file.sample_rate_hz >= 32_000:
        return None
    return "fix", f"recorded at {file.sample_rate_hz} Hz"


def _upsampled(file: Examined) -> tuple[Weight, str] | None:
    reach_hz = file.bandwidth.bandwidth_hz
    if not file.bandwidth.cut_off or reach_hz >= 0.85 * min(file.sample_rate_hz / 2, 22_050):
        return None
    text = (
        f"{file.sample_rate_hz} Hz file that ends at {reach_hz / 1000:.1f} kHz, as if made from "
        f"one of {2 * reach_hz / 1000:.0f} kHz"
    )
    return ("fix" if reach_hz < 12_000 else "know"), text


def _quiet(file: Examined) -> tuple[Weight, str] | None:
    return ("know", f"level {file.level_db:.0f} dBFS") if file.level_db < -40 else None


def _noisy(file: Examined) -> tuple[Weight, str] | None:
    distance_db = file.signal_to_noise_db
    if distance_db is None or distance_db >= 25:
        return None
    return ("fix" if distance_db < 15 else "know"), f"noise {distance_db:.0f} dB below the voice"


def _reverberant(file: Examined) -> tuple[Weight, str] | None:
    return _echo(reverberation_s(file.decays_s, _FILE_DECAYS))


def _echo(room_s: float | None) -> tuple[Weight, str] | None:
    if room_s is None or room_s <= _ROOM_S:
        return None
    return ("fix" if room_s > _LARGE_ROOM_S else "know"), f"sounds die away in {room_s:.2f} s"


def _several(file: Examined) -> tuple[Weight, str] | None:
    if not suspects_several_voices(file):
        return None
    return "fix", f"{file.several_voices:.0%} of the tonal part is not the leading voice's"


def _silent(file: Examined) -> tuple[Weight, str] | None:
    return ("know", f"{file.silence_share:.0%} silence") if file.silence_share > 0.6 else None


def _doubtful(file: Examined) -> tuple[Weight, str] | None:
    if file.disagreement is None or file.disagreement <= 0.35:
        return None
    return "know", f"trackers differ in {file.disagreement:.0%} of the voiced frames"


FILE_RULES: dict[str, Callable[[Examined], tuple[Weight, str] | None]] = {
    "clipped": _clipped,
    "low rate": _low_rate,
    "upsampled": _upsampled,
    "quiet": _quiet,
    "noisy": _noisy,
    "reverberant": _reverberant,
    "several voices": _several,
    "silence": _silent,
    "doubtful pitch": _doubtful,
}
"""Kind of finding -> rule, which returns its weight and what was measured, or None."""


def _file_findings(file: Examined) -> list[Finding]:
    judged = ((kind, rule(file)) for kind, rule in FILE_RULES.items())
    return [
        Finding(kind, found[0], file.recording.name, found[1], file.duration_s)
        for kind, found in judged
        if found is not None
    ]


def _speaker_findings(speaker: SpeakerSummary) -> list[Finding]:
    found = []
    seconds = 60 * speaker.minutes
    minutes = speaker.singing_minutes
    if minutes < 10:
        text = f"{minutes:.1f} minutes without silences"
        weight: Weight = "fix" if minutes < 2 else "know"
        found.append(Finding("little material", weight, speaker.speaker, text, seconds))
    if (echo := _echo(speaker.reverberation_s)) is not None:
        found.append(Finding("room", echo[0], speaker.speaker, echo[1], seconds))
    if speaker.f0_low_hz > 0:
        semitones = 12 * np.log2(speaker.f0_high_hz / speaker.f0_low_hz)
        if semitones < 7:
            text = f"nearly all of it within {semitones:.0f} semitones"
            found.append(Finding("narrow range", "know", speaker.speaker, text, seconds))
    return found


def _summary(speaker: str, files: Sequence[Examined]) -> SpeakerSummary:
    seconds = np.array([file.duration_s for file in files])
    silence = np.array([file.silence_share for file in files])
    noise = [file.noise_floor_db for file in files if file.noise_floor_db is not None]
    disagreement = [file.disagreement for file in files if file.disagreement is not None]
    decays_s = [time_s for file in files for time_s in file.decays_s]
    histogram = total_histogram(file.f0.histogram for file in files)
    low_hz, high_hz = f0_span_hz(histogram)
    return SpeakerSummary(
        speaker=speaker,
        files=len(files),
        minutes=round(float(seconds.sum()) / 60, 2),
        singing_minutes=round(float(seconds @ (1 - silence)) / 60, 2),
        level_db=round(float(np.median([file.level_db for file in files])), 1),
        noise_floor_db=round(float(np.median(noise)), 1) if noise else None,
        reverberation_s=reverberation_s(decays_s, _SPEAKER_DECAYS),
        bandwidth_hz=float(np.median([file.bandwidth.bandwidth_hz for file in files])),
        silence_share=round(float(np.average(silence, weights=seconds)), 4),
        f0_low_hz=low_hz,
        f0_high_hz=high_hz,
        f0_histogram=histogram,
        disagreement=round(float(np.mean(disagreement)), 4) if disagreement else None,
    )


def f0_span_hz(histogram: Sequence[int]) -> tuple[float, float]:
    """5th and 95th percentile of a histogram of semitones, as the middles of those semitones."""
    total = sum(histogram)
    if total == 0:
        return 0.0, 0.0
    running = np.cumsum(histogram) / total
    low, high = (int(np.searchsorted(running, share)) for share in (0.05, 0.95))
    notes = (LOWEST_HISTOGRAM_MIDI + low, LOWEST_HISTOGRAM_MIDI + high)
    low_hz, high_hz = (round(440 * 2 ** ((note - 69) / 12), 1) for note in notes)
    return low_hz, high_hz


def _verdict(findings: Sequence[Finding], total_s: float) -> Verdict:
    if total_s == 0:
        return "fix these first"
    worst: Verdict = "good"
    for weight, verdict in (("know", "usable"), ("fix", "fix these first")):
        where = {f.where: f.seconds for f in findings if f.weight == weight}
        if where and sum(where.values()) > _AFFECTED_SHARE * total_s:
            worst = verdict  # type: ignore[assignment]
        elif where and weight == "fix":
            worst = "usable"
    return worst


def _sentence(verdict: Verdict, findings: Sequence[Finding]) -> str:
    if verdict == "good":
        return "Nothing stands in the way of training."
    weight = "fix" if verdict == "fix these first" else None
    kinds = dict.fromkeys(TITLES[f.kind][0].lower() for f in findings if weight in (None, f.weight))
    listed = "; ".join(list(kinds)[:4])
    if verdict == "usable":
        return f"You can train with this. It would be better without: {listed}."
    return f"Before you spend hours on training, see to this: {listed}."
