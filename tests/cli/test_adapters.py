"""`adapters=[a.safetensors:1.0]` as people type it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from command_line import Terminal
from svc.audio.io import read_audio, write_audio
from svc.checkpoints.adapter_file import read_adapter
from svc.checkpoints.adapters import SPEAKER_TABLE
from svc.checkpoints.model_file import read_model_file
from svc.cli.adapters import adapters_of
from svc.cli.quoting import quoted_adapters
from svc.errors import UserError
from tiny_lora import lora_training


def typed(value: str) -> Any:
    """What Hydra makes of it."""
    return OverridesParser.create().parse_override(f"adapters={quoted_adapters(value)}").value()


@pytest.mark.parametrize(
    ("value", "files"),
    [
        ("[a.safetensors:1.0,b.safetensors:0.5]", [("a.safetensors", 1.0), ("b.safetensors", 0.5)]),
        ("[a.safetensors]", [("a.safetensors", 1.0)]),
        ("a.safetensors:-0.25", [("a.safetensors", -0.25)]),
        ("a.safetensors:1,b.safetensors:2", [("a.safetensors", 1.0), ("b.safetensors", 2.0)]),
        ("[a.safetensors:1e-1, b.safetensors:0]", [("a.safetensors", 0.1), ("b.safetensors", 0.0)]),
        ("[/x-1/größe (1)=[b].safetensors:1]", [("/x-1/größe (1)=[b].safetensors", 1.0)]),
        (r"[C:\v\a b.safetensors:0.5]", [(r"C:\v\a b.safetensors", 0.5)]),
        (r"[C:\v\a.safetensors]", [(r"C:\v\a.safetensors", 1.0)]),
        (r"\\server\v\it's\'.safetensors:0.5", [(r"\\server\v\it's\'.safetensors", 0.5)]),
        (r"[folder\]", [("folder\\", 1.0)]),
        ("['one, two.safetensors:1.5']", [("one, two.safetensors", 1.5)]),
        ("[]", []),
        ("null", []),
    ],
)
def test_files_and_scales_reach_the_command(value: str, files: list[tuple[str, float]]) -> None:
    assert adapters_of(typed(value)) == [(Path(path), scale) for path, scale in files]


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert adapters_of(typed("[~/a.safetensors:2]")) == [(tmp_path / "a.safetensors", 2.0)]


def test_an_existing_file_with_a_colon_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("take:2").touch()
    assert adapters_of("take:2") == [(Path("take:2"), 1.0)]
    assert adapters_of("take:2:0.5") == [(Path("take:2"), 0.5)]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (["a.safetensors:nan"], "scale nan of a.safetensors must be a finite number"),
        (["a.safetensors:loud"], "'loud' after a.safetensors is not a scale"),
        (["a.safetensors:"], "'' after a.safetensors is not a scale"),
        ([1.0], "1.0 is not a file"),
        ([""], "'' is not a file"),
        ([["a.safetensors", 1.0]], "is not a file"),
    ],
)
def test_what_is_no_adapter_is_refused(setting: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        adapters_of(setting)


def test_an_adapter_sings_as_its_training(
    checkpoint: Callable[..., Path], terminal: Terminal
) -> None:
    base = checkpoint("hifisinger", speakers=("anna", "bert", ""))
    folder = terminal.folder / "it's (mine)"
    folder.mkdir()
    trained, adapter = lora_training(folder, base, "carl = 1, größer", "carl")
    write_audio(terminal.folder / "song.wav", 0.1 * torch.sin(torch.arange(22_050) * 0.03))
    song = ["input=song.wav", "speaker=carl"]
    terminal("svc-infer", f"checkpoint={trained}", *song, "output=trained.wav")
    plain = adapter.rename(folder / "carl = 1.safetensors").relative_to(terminal.folder)
    terminal("svc-infer", f"checkpoint={base}", *song, f"adapters=[{plain}:1.0]")
    expected, got = (read_audio(terminal.folder / f"{n}.wav") for n in ("trained", "song_carl"))
    torch.testing.assert_close(got, expected, atol=2 / 32_768, rtol=0)

    refused = terminal.refused("svc-infer", f"checkpoint={base}", *song, "adapters=[gone]")
    assert "no adapter gone" in refused
    refused = terminal.refused("svc-infer", f"checkpoint={base}", *song, f"adapters=[{base}]")
    assert "cannot be read" in refused
    assert "carl" in terminal.refused("svc-infer", f"checkpoint={base}", *song)


def test_adapters_are_exported_and_merged_for_good(
    checkpoint: Callable[..., Path], terminal: Terminal
) -> None:
    base = checkpoint("hifisinger")
    trained, _ = lora_training(terminal.folder, base, "run", "carl")
    said = terminal("svc-export", f"checkpoint={trained}", "format=adapter", "precision=fp16").out
    assert said.startswith(str(trained.with_name("run.adapter.safetensors")))
    assert "fp16" in said
    assert "licence:  MIT" in said
    assert "from:     hifisinger.ckpt" in said
    terminal(
        "svc-export", f"checkpoint={trained}", "format=adapter", "output=a.safetensors", "licence=X"
    )
    adapter = read_adapter(terminal.folder / "a.safetensors")
    assert adapter.facts.licence == "X"

    merged = terminal(
        "svc-export",
        f"checkpoint={base}",
        "adapters=[a.safetensors:1.0,run.adapter.safetensors:0]",
        "output=merged.safetensors",
    ).out
    assert "speakers: anna, bert, carl" in merged
    assert "from:     a.safetensors (adapter, licence X" in merged
    weights = read_model_file(terminal.folder / "merged.safetensors").generator
    for name, expected in read_model_file(trained).generator.items():
        torch.testing.assert_close(weights[name], expected, atol=2e-3, rtol=0)  # a row in fp16
        assert name == SPEAKER_TABLE or weights[name].equal(expected)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["format=adapter"], "no adapter in"),
        (["format=adapter", "discriminators=true"], "discriminators=True is of whole models"),
        (["format=adapter", "remove_speakers=[anna]"], "is of whole models"),
        (["format=adapter", "adapters=[a]"], "is of whole models"),
        (["format=adapter", "precision=int8"], "choose one of fp32, fp16"),
        (["format=lora"], "choose one of safetensors, adapter"),
        (["adapters=[gone.safetensors:2]"], "no adapter gone.safetensors"),
    ],
)
def test_exports_that_make_no_sense_are_refused(
    checkpoint: Callable[..., Path], terminal: Terminal, arguments: list[str], told: str
) -> None:
    assert told in terminal.refused(
        "svc-export", f"checkpoint={checkpoint('hifisinger')}", *arguments
    )
