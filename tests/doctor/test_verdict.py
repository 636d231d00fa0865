"""What is said about a dataset: good, usable or fix first, for whom and why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from doctor.material import examined, sung
from svc.data.report import SkippedFile
from svc.data.sources import Recording
from svc.doctor.advice import TITLES
from svc.doctor.duplicates import Duplicate
from svc.doctor.measures import Bandwidth, F0Range
from svc.doctor.recordings import Examination, Examined
from svc.doctor.verdict import FILE_RULES, Finding, diagnose


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Examined:
    """A recording without any fault, said to last four minutes."""
    file = examined(tmp_path_factory.mktemp("clean") / "clean.wav", sung(seconds=4.0))
    wide = F0Range(110, 220, 440, 0.7, tuple(int(n) for n in np.full(57, 10)))
    return replace(file, duration_s=240.0, silence_share=0.1, f0=wide)


def dataset(*files: Examined, **more: object) -> Examination:
    named = [
        replace(file, recording=Recording(Path(f"{i}.wav"), "singer", f"{i}.wav"))
        for i, file in enumerate(files)
    ]
    empty: dict[str, object] = {"unusable": (), "too_short": (), "duplicates": ()}
    return Examination("songs", tuple(named), **(empty | more))  # type: ignore[arg-type]


def kinds(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.weight) for finding in findings]


def test_clean_material_is_good(clean: Examined) -> None:
    diagnosis = diagnose(dataset(clean, clean, clean))
    assert diagnosis.findings == ()
    assert diagnosis.verdict == "good"
    assert diagnosis.speakers[0].minutes == 12.0
    assert diagnosis.speakers[0].singing_minutes == pytest.approx(10.8)


@pytest.mark.parametrize(
    ("change", "kind", "weight"),
    [
        ({"clipped_share": 1e-4}, "clipped", "know"),
        ({"clipped_share": 0.01}, "clipped", "fix"),
        ({"sample_rate_hz": 16_000}, "low rate", "fix"),
        ({"bandwidth": Bandwidth(8_500, True)}, "upsampled", "fix"),
        ({"bandwidth": Bandwidth(15_500, True)}, "upsampled", "know"),
        ({"level_db": -45.0, "noise_floor_db": -90.0}, "quiet", "know"),
        ({"level_db": -20.0, "noise_floor_db": -40.0}, "noisy", "know"),
        ({"level_db": -20.0, "noise_floor_db": -30.0}, "noisy", "fix"),
        ({"several_voices": 0.2}, "several voices", "fix"),
        ({"several_voices": 0.05, "disagreement": 0.3}, "several voices", "fix"),
        ({"silence_share": 0.7}, "silence", "know"),
        ({"disagreement": 0.5}, "doubtful pitch", "know"),
    ],
)
def test_each_fault_is_found_and_weighed(
    clean: Examined, change: dict[str, object], kind: str, weight: str
) -> None:
    bad = replace(clean, **change)  # type: ignore[arg-type]
    diagnosis = diagnose(dataset(*[clean] * 4, bad))
    (finding,) = diagnosis.findings
    assert (finding.kind, finding.weight, finding.where) == (kind, weight, "4.wav")
    assert diagnosis.verdict == ("fix these first" if weight == "fix" else "usable")
    assert TITLES[kind][0].lower() in diagnosis.sentence


@pytest.mark.parametrize(
    "harmless",
    [
        {"bandwidth": Bandwidth(15_500, False)},  # a soft voice, not a filter
        {"bandwidth": Bandwidth(20_000, True)},
        {"noise_floor_db": None},
        {"several_voices": 0.06, "disagreement": 0.1},  # echo
        {"several_voices": None, "disagreement": None},
    ],
)
def test_what_only_looks_like_a_fault_is_none(clean: Examined, harmless: dict[str, object]) -> None:
    files = [replace(clean, **harmless) for _ in range(3)]  # type: ignore[arg-type]
    assert diagnose(dataset(*files)).findings == ()


@pytest.mark.parametrize(("decay_s", "weight"), [(0.4, "know"), (0.8, "fix")])
def test_echo_is_believed_from_many_ends_of_notes(
    clean: Examined, decay_s: float, weight: str
) -> None:
    echoing = replace(clean, decays_s=(decay_s,) * 8)
    assert ("reverberant", weight) in kinds(diagnose(dataset(echoing)).findings)
    few = replace(clean, decays_s=(decay_s,) * 2)
    assert kinds(diagnose(dataset(few, few, few)).findings) == [("room", weight)]
    assert kinds(diagnose(dataset(*[replace(clean, decays_s=(decay_s,))] * 3)).findings) == []


def test_a_single_bad_file_among_many_does_not_stop_training(clean: Examined) -> None:
    bad = replace(clean, clipped_share=0.01, duration_s=10.0)
    diagnosis = diagnose(dataset(clean, clean, clean, bad))
    assert kinds(diagnosis.findings) == [("clipped", "fix")]
    assert diagnosis.verdict == "usable"


@pytest.mark.parametrize(
    ("minutes", "weight", "verdict"),
    [(1.0, "fix", "fix these first"), (5.0, "know", "usable"), (30.0, None, "good")],
)
def test_the_amount_of_material_is_judged(
    clean: Examined, minutes: float, weight: str | None, verdict: str
) -> None:
    diagnosis = diagnose(dataset(replace(clean, duration_s=60 * minutes)))
    assert kinds(diagnosis.findings) == ([("little material", weight)] if weight else [])
    assert diagnosis.verdict == verdict


def test_a_narrow_range_is_told(clean: Examined) -> None:
    narrow = tuple(100 if 20 <= i < 25 else 0 for i in range(57))
    one = replace(clean, f0=replace(clean.f0, histogram=narrow))
    assert kinds(diagnose(dataset(one, one, one)).findings) == [("narrow range", "know")]


def test_files_that_cannot_be_used_and_duplicates_are_told(clean: Examined) -> None:
    diagnosis = diagnose(
        dataset(
            *[clean] * 3,
            unusable=(SkippedFile("bad.wav", "not audio"),),
            too_short=(SkippedFile("click.wav", "shorter than 0.5 s"),),
            duplicates=(Duplicate(0, 2, True),),
        )
    )
    assert kinds(diagnosis.findings) == [
        ("duplicate", "fix"),
        ("unusable", "fix"),
        ("too short", "know"),
    ]
    assert diagnosis.findings[0].text == "equals 0.wav"
    assert diagnosis.verdict == "fix these first"  # a third of it is there twice


def test_nothing_readable_is_not_good() -> None:
    found = dataset(unusable=(SkippedFile("bad.wav", "not audio"),))
    assert diagnose(found).verdict == "fix these first"


def test_every_rule_has_words() -> None:
    assert set(FILE_RULES) <= set(TITLES)
