"""What the doctor says, as a page, as data, and on the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from svc.audio.io import read_audio, write_audio
from svc.doctor.advice import TITLES
from svc.doctor.frames import SPEC
from svc.doctor.plots import plot_f0_histograms, plot_recordings
from svc.doctor.recordings import Examined
from svc.doctor.verdict import Diagnosis, Finding, SpeakerSummary
from svc.evaluation.report import Clip, MetricRow, Report, Section, write_report

EXCERPT_S = 4.0
_MAX_EXCERPTS = 10
_EXCERPTS_PER_KIND = 2
_MAX_ROWS = 200
"""Files listed on the page; the JSON has them all."""
_MAX_NAMES = 5
_STYLES = {"good": "bold green", "usable": "bold yellow", "fix these first": "bold red"}
_LISTEN_AT = {"noisy": "quietest", "doubtful pitch": "doubtful", "several voices": "doubtful"}
"""Kind of finding -> which place of the file shows it; the loudest for all others."""


def as_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    """What `--json` prints, and metrics.json beside the page holds."""
    examination = diagnosis.examination
    files = [_file_dict(file) for file in examination.files]
    return {
        "verdict": diagnosis.verdict,
        "sentence": diagnosis.sentence,
        "dataset": examination.source,
        "findings": [asdict(finding) for finding in diagnosis.findings],
        "speakers": [asdict(speaker) for speaker in diagnosis.speakers],
        "files": files,
        "unusable": [asdict(file) for file in examination.unusable],
        "too_short": [asdict(file) for file in examination.too_short],
        "duplicates": [
            {
                "file": examination.files[pair.second].recording.name,
                "same_as": examination.files[pair.first].recording.name,
                "exact": pair.exact,
            }
            for pair in examination.duplicates
        ],
    }


def summary(diagnosis: Diagnosis) -> RenderableType:
    """A few lines for the terminal."""
    lines = [
        Text.assemble(
            f"{diagnosis.examination.source}: ",
            (diagnosis.verdict, _STYLES[diagnosis.verdict]),
        ),
        Text(diagnosis.sentence),
    ]
    for kind, found in _by_kind(diagnosis.findings).items():
        heading, advice = TITLES[kind]
        mark = "✗" if _must_fix(found) else "·"
        lines.append(Text(f"{mark} {heading}: {_extent(found)}.", "bold"))
        lines += [Text(f"    {f.where}: {f.text}") for f in found[:_MAX_NAMES]]
        if len(found) > _MAX_NAMES:
            lines.append(Text(f"    and {len(found) - _MAX_NAMES} more"))
        lines.append(Text(f"    {advice}"))
    return Group(*lines)


def write_page(folder: Path, diagnosis: Diagnosis) -> Path:
    """Write report.html, metrics.json and the excerpts to listen to.

    Returns:
        Path of the page.
    """
    examination = diagnosis.examination
    sections = [Section("What to do", _no_findings(diagnosis), rows=_finding_rows(diagnosis))]
    if clips := _excerpts(folder / "excerpts", diagnosis):
        text = "The worst places of each kind; listen whether you hear what was measured."
        sections.append(Section("Listen", [text], clips=clips))
    if examination.files:
        sections.append(_speakers_section(folder, diagnosis.speakers))
        sections.append(_files_section(folder, diagnosis))
    minutes = sum(file.duration_s for file in examination.files) / 60
    report = Report(
        title=f"{examination.source}: {diagnosis.verdict}",
        introduction=[
            diagnosis.sentence,
            f"{len(examination.files)} recordings of {len(diagnosis.speakers)} speaker(s), "
            f"{minutes:.1f} minutes in all; {len(examination.unusable)} could not be read and "
            f"{len(examination.too_short)} are too short.",
        ],
        sections=sections,
        metrics=as_dict(diagnosis),
    )
    page = write_report(folder, report, embed_pictures=True)
    for name in ("f0.png", "recordings.png"):
        (folder / name).unlink(missing_ok=True)  # they are in the page
    return page


def _file_dict(file: Examined) -> dict[str, Any]:
    room = file.reverberation_s
    return {
        "name": file.recording.name,
        "speaker": file.recording.speaker,
        "duration_s": round(file.duration_s, 3),
        "sample_rate_hz": file.sample_rate_hz,
        "channels": file.channels,
        "format": file.format,
        "bandwidth_hz": round(file.bandwidth.bandwidth_hz),
        "bandwidth_cut_off": file.bandwidth.cut_off,
        "clipped_share": file.clipped_share,
        "peak_db": round(file.peak_db, 2),
        "level_db": round(file.level_db, 2),
        "noise_floor_db": None if file.noise_floor_db is None else round(file.noise_floor_db, 2),
        "reverberation_s": None if room is None else round(room, 3),
        "silence_share": round(file.silence_share, 4),
        "off_harmonic_share": file.several_voices,
        "f0": asdict(file.f0),
        "tracker_disagreement": file.disagreement,
        "sha256": file.fingerprint.sha256,
    }


def _by_kind(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    return kinds


def _must_fix(found: Sequence[Finding]) -> bool:
    return any(finding.weight == "fix" for finding in found)


def _extent(found: Sequence[Finding]) -> str:
    """How much of the material findings of one kind concern."""
    of_speaker = found[0].kind in ("little material", "narrow range", "room")
    what = "speaker" if of_speaker else "file"
    many = f"{len(found)} {what}{'s' if len(found) > 1 else ''}"
    minutes = sum(finding.seconds for finding in found) / 60
    return f"{many}, {minutes:.1f} min" if minutes else many


def _no_findings(diagnosis: Diagnosis) -> list[str]:
    return [] if diagnosis.findings else ["Nothing was found that needs your attention."]


def _finding_rows(diagnosis: Diagnosis) -> list[MetricRow]:
    rows = []
    for kind, found in _by_kind(diagnosis.findings).items():
        heading, advice = TITLES[kind]
        listed = "; ".join(f"{f.where} ({f.text})" for f in found[:_MAX_NAMES])
        more = f"; and {len(found) - _MAX_NAMES} more" if len(found) > _MAX_NAMES else ""
        fix = _must_fix(found)
        rows.append(
            MetricRow(
                heading,
                _extent(found),
                f"{advice} Found in: {listed}{more}.",
                False if fix else None,
                "fix first" if fix else "",
            )
        )
    return rows


def _excerpts(folder: Path, diagnosis: Diagnosis) -> list[Clip]:
    files = {file.recording.name: file for file in diagnosis.examination.files}
    clips: list[Clip] = []
    for kind, found in _by_kind(diagnosis.findings).items():
        worst = [finding for finding in found if finding.where in files][:_EXCERPTS_PER_KIND]
        for finding in worst[: _MAX_EXCERPTS - len(clips)]:
            file = files[finding.where]
            start_s = file.places_s[_LISTEN_AT.get(kind, "loudest")]
            path = folder / f"{len(clips):02d}-{kind.replace(' ', '-')}.flac"
            _write_excerpt(path, file, start_s)
            text = f"{finding.where} from {start_s:.1f} s: {finding.text}"
            clips.append(Clip(TITLES[kind][0], path, text))
    return clips


def _write_excerpt(path: Path, file: Examined, start_s: float) -> None:
    rate_hz = SPEC.sample_rate_hz
    start = round(start_s * rate_hz)
    audio = read_audio(file.recording.path, rate_hz)[start : start + round(EXCERPT_S * rate_hz)]
    write_audio(path, audio, rate_hz)


def _speakers_section(folder: Path, speakers: Sequence[SpeakerSummary]) -> Section:
    plot_f0_histograms(folder / "f0.png", speakers)
    rows = [
        MetricRow(
            speaker.speaker,
            f"{speaker.singing_minutes:.1f} min",
            f"{speaker.files} files, {speaker.minutes:.1f} min with silences "
            f"({speaker.silence_share:.0%}). Level {speaker.level_db:.0f} dBFS, noise "
            f"{_or_unknown(speaker.noise_floor_db, '{:.0f} dBFS')}, bandwidth "
            f"{speaker.bandwidth_hz / 1000:.1f} kHz, sounds die away in "
            f"{_or_unknown(speaker.reverberation_s, '{:.2f} s')}. F0 {speaker.f0_low_hz:.0f} to "
            f"{speaker.f0_high_hz:.0f} Hz, doubtful in "
            f"{_or_unknown(speaker.disagreement, '{:.0%}')} of the voiced frames.",
        )
        for speaker in speakers
    ]
    picture = Clip(
        "Pitches that each speaker sings",
        folder / "f0.png",
        "A voice is only learned where there are bars; gaps and single spikes far away from the "
        "rest are more likely errors of the pitch tracker than notes.",
    )
    return Section("Speakers", rows=rows, pictures=[picture])


def _files_section(folder: Path, diagnosis: Diagnosis) -> Section:
    files = diagnosis.examination.files
    plot_recordings(folder / "recordings.png", files)
    picture = Clip(
        "All recordings",
        folder / "recordings.png",
        "The farther the voice lies above the noise, the better. Bandwidth is how far up the voice "
        "really reaches; 16 kHz and more are fine.",
    )
    weights: dict[str, list[Finding]] = {}
    for finding in diagnosis.findings:
        weights.setdefault(finding.where, []).append(finding)
    # Files with findings first, those to fix before the others.
    ordered = sorted(files, key=lambda file: -_burden(weights.get(file.recording.name, [])))
    rows = [_file_row(file, weights.get(file.recording.name, [])) for file in ordered[:_MAX_ROWS]]
    text = []
    if len(files) > _MAX_ROWS:
        text = [f"The first {_MAX_ROWS} of {len(files)}, the worst first; metrics.json has all."]
    return Section("Recordings", text, rows=rows, pictures=[picture])


def _burden(findings: Sequence[Finding]) -> int:
    return sum(100 if finding.weight == "fix" else 1 for finding in findings)


def _file_row(file: Examined, findings: Sequence[Finding]) -> MetricRow:
    fix = _must_fix(findings)
    said = f"{'; '.join(finding.text for finding in findings)}. " if findings else ""
    ratio = _or_unknown(file.signal_to_noise_db, "{:.0f} dB")
    return MetricRow(
        file.recording.name,
        f"{file.duration_s:.1f} s",
        f"{said}{file.sample_rate_hz} Hz, reaches {file.bandwidth.bandwidth_hz / 1000:.1f} kHz; "
        f"level {file.level_db:.0f} dBFS, voice over noise {ratio}; F0 {file.f0.low_hz:.0f} to "
        f"{file.f0.high_hz:.0f} Hz, {file.f0.voiced_share:.0%} voiced.",
        False if fix else (None if findings else True),
        "fix first" if fix else ("" if findings else "good"),
    )


def _or_unknown(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value)


def machine_lines(machine: Mapping[str, Any], recommendation: Mapping[str, Any]) -> list[str]:
    """The machine for the terminal, from dataclasses turned into mappings."""
    devices = [
        f"  {device['name']}: {device['model']}, "
        + (f"{device['memory_gib']:.1f} GiB, " if device["memory_gib"] else "")
        + f"computes {', '.join(device['precisions'])}"
        for device in machine["devices"]
    ]
    versions = [f"{name} {version or '—'}" for name, version in machine["versions"].items()]
    weights = [
        f"  {'✓' if item['present'] else '·'} {item['name']}: {item['used_by']}"
        + ("" if item["present"] else f" (svc-download {item['name']})")
        for item in machine["weights"]
    ]
    free, total = machine["free_memory_gib"], machine["memory_gib"]
    memory = f"{_or_unknown(free, '{:.1f}')} of {_or_unknown(total, '{:.1f}')} GiB memory free"
    return [
        f"This machine: {machine['system']}, {machine['cores']} cores, {memory}, "
        f"{machine['free_disk_gib']:.1f} GiB free in {machine['disk']}",
        "Devices:",
        *devices,
        f"Train with: trainer={recommendation['trainer']} "
        f"data.batch_size={recommendation['batch_size']} ({recommendation['precision']})",
        *(f"  {remark}" for remark in recommendation["remarks"]),
        f"  Trainers that run here: {', '.join(recommendation['working'])}",
        f"Weights in {machine['weights_folder']}:",
        *weights,
        f"Versions: {', '.join(versions)}",
        "Give dataset.path=FOLDER to have recordings examined.",
    ]
