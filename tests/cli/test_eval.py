"""`svc-eval` as a user types it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from command_line import Terminal
from svc.audio.io import write_audio
from svc.config.paths import conf_dir
from tiny_checkpoint import checkpoint

__all__ = ["checkpoint"]

SMALL = ("task=pitch", "task.minutes=0.28", "output=out")


@pytest.mark.slow
def test_known_voices_give_tables_and_a_plot(terminal: Terminal, tmp_path: Path) -> None:
    conditions = [f"~task.conditions.{name}" for name in ("reverb", "noise_20_db", "noise_0_db")]
    changes = (*conditions, "task.trackers=[parselmouth]")
    said = terminal("svc-eval", *SMALL, *changes)
    assert "parselmouth" in said.out
    assert "accuracy.md" in said.out
    assert (tmp_path / "out/accuracy.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((tmp_path / "out/accuracy.json").read_text())
    with (tmp_path / "out/accuracy.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(stored["rows"]) == 2 * (1 + 11)
    clean = next(r for r in rows if (r["condition"], r["exercise"]) == ("clean", "all"))
    noisy = next(r for r in rows if (r["condition"], r["exercise"]) == ("noise_10_db", "all"))
    assert float(clean["raw_pitch_accuracy"]) > 0.85
    assert float(noisy["voicing_recall"]) < float(clean["voicing_recall"])
    assert "| parselmouth |" in (tmp_path / "out/accuracy.md").read_text()


def test_recordings_give_agreement_instead(terminal: Terminal, tmp_path: Path) -> None:
    time_s = torch.arange(44_100) / 44_100
    buzz = sum(torch.sin(2 * torch.pi * 150 * k * time_s) / k for k in range(1, 9))
    write_audio(tmp_path / "My songs (live)/a.wav", 0.2 * torch.as_tensor(buzz))
    (tmp_path / "My songs (live)/b.wav").write_bytes(b"nothing")
    both = ("task.trackers=[parselmouth,second]", "+pitch@task.candidates.second=parselmouth")
    lower = "task.candidates.second.f0_max_hz=120"  # so that it must answer an octave below
    recordings = "task.recordings=My songs (live)"
    said = terminal("svc-eval", "output=out", recordings, *both, lower)
    assert "parselmouth, second" in said.out
    assert "b.wav: " in said.out
    stored = json.loads((tmp_path / "out/agreement.json").read_text())
    (pair,) = stored["pairs"]
    assert pair["octave_disagreement"] > 0.9
    assert [name for name, _ in stored["skipped"]] == ["b.wav"]
    assert "**a.wav**" in (tmp_path / "out/agreement.md").read_text()
    assert (tmp_path / "out/agreement.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["task.trackers=[parselmuth]"],
            ["'parselmuth' is no tracker", "did you mean parselmouth"],
        ),
        (["task.recordings=nowhere"], ["task.recordings=nowhere", "does not exist"]),
        (["task.recordings=empty"], ["task.recordings=empty", "no recordings", ".wav"]),
        (["task.recordings=broken"], ["not one file could be read", "b.wav: "]),
        (["task.minutes=0.01", "task.trackers=[parselmouth]"], ["task.minutes=0.01", "at least"]),
        (["task.minuts=1"], ["did you mean task.minutes?"]),
        (["audio.sample_rate_hz=16000", "audio.mel_max_hz=8000"], ["audio.sample_rate_hz=16000"]),
        (["seed=-1"], ["seed=-1"]),
    ],
)
def test_what_cannot_work_is_explained(
    arguments: list[str], parts: list[str], terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/b.wav").write_bytes(b"nothing")
    two = ("+pitch@task.candidates.second=parselmouth", "task.trackers=[parselmouth,second]")
    message = terminal.refused("svc-eval", *(two if "broken" in arguments[0] else ()), *arguments)
    for part in parts:
        assert part in message
    assert not (tmp_path / "outputs").exists()


def test_recordings_need_two_trackers(terminal: Terminal, tmp_path: Path) -> None:
    write_audio(tmp_path / "songs/a.wav", 0.1 * torch.randn(4410))
    message = terminal.refused("svc-eval", "task.recordings=songs", "task.trackers=[parselmouth]")
    assert "two trackers" in message
    assert "parselmouth" in message


def test_every_tracker_of_the_toolkit_is_a_candidate(terminal: Terminal) -> None:
    said = terminal("svc-eval", "--cfg", "job", "-p", "task.candidates")
    named = {line.rstrip(":") for line in said.out.splitlines() if line[:1].isalpha()}
    assert named == {path.stem for path in (conf_dir() / "pitch").glob("*.yaml")}


def test_vocoders_make_recordings_again(terminal: Terminal, tmp_path: Path) -> None:
    time_s = torch.arange(22_050) / 44_100
    buzz = sum(torch.sin(2 * torch.pi * 150 * k * time_s) / k for k in range(1, 9))
    write_audio(tmp_path / "songs/a.wav", 0.2 * torch.as_tensor(buzz))
    fast = "task.candidates.griffin_lim.iterations=2"
    said = terminal(
        "svc-eval", "task=vocoder", "task.phrases=0", "task.recordings=songs", fast, "output=out"
    )
    assert "1 recordings" in said.out
    assert "| griffin_lim |" in said.out
    assert "trained did not take part: task.checkpoint is not set" in said.out
    assert (tmp_path / "out/vocoder_0.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "out/vocoder.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["mel_l1"]) < 2


def test_a_checkpoint_that_is_not_there_stops_nothing_but_its_vocoder(
    terminal: Terminal, tmp_path: Path
) -> None:
    only = ("task.phrases=0", "task.recordings=songs", "~task.candidates.griffin_lim")
    message = terminal.refused("svc-eval", "task=vocoder", *only, "task.checkpoint=nowhere.ckpt")
    assert "There is no vocoder" in message
    assert "There is no checkpoint nowhere.ckpt" in message


def test_samplers_are_compared_on_a_model(
    terminal: Terminal, tmp_path: Path, checkpoint: Callable[..., Path]
) -> None:
    checkpoint("diffsvc", "my model (new)")
    write_audio(tmp_path / "songs/a.wav", 0.1 * torch.sin(torch.arange(9000) * 0.03))
    material = ("task.checkpoint=my model (new).ckpt", "task.recordings=songs", "output=out")
    few = ("task.evaluations=[3]", "task.samplers=[ddim,plms]", "task.reference_evaluations=4")
    said = terminal("svc-eval", "task=samplers", *material, *few)
    assert "| ddim " in said.out
    with (tmp_path / "out/samplers.csv").open(newline="") as file:
        assert [(row["sampler"], row["steps"]) for row in csv.DictReader(file)] == [
            ("ddim", "3"),
            ("plms", "2"),
        ]
    message = terminal.refused("svc-eval", "task=samplers", *material, "task.samplers=[unipk]")
    assert "'unipk' is no sampler; did you mean unipc?" in message
