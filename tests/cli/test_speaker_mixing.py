"""Mixes of speakers as they are typed after svc-infer."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from command_line import Terminal
from svc.audio.io import read_audio, write_audio


@pytest.fixture
def convert(checkpoint: Callable[..., Path], terminal: Terminal) -> list[str]:
    """The beginning of a command line: a model of anna and bert (one was removed), and a song."""
    write_audio(terminal.folder / "song.wav", 0.1 * torch.sin(torch.arange(22_050) * 0.03))
    model = checkpoint("hifisinger", speakers=("anna", "bert", ""))
    return [f"checkpoint={model}", "input=song.wav"]


def test_a_mix_needs_no_quotes(terminal: Terminal, convert: list[str]) -> None:
    terminal("svc-infer", *convert, "speaker=anna")
    terminal("svc-infer", *convert, "speaker=anna:1,bert:0", "output=alone.wav")
    terminal("svc-infer", *convert, "speaker=anna:0.7,bert:0.3")
    terminal("svc-infer", *convert, "speaker=anna:7,bert:3", "speaker_interpolation=spherical")
    names = ("song_anna.wav", "alone.wav", "song_anna-70_bert-30.wav")
    anna, alone, mix = (read_audio(terminal.folder / name) for name in names)
    assert torch.equal(anna, alone)
    assert not torch.equal(anna, mix)


def test_a_curve_from_a_file(terminal: Terminal, convert: list[str]) -> None:
    rows = "time_s,anna,bert\n0,1,0\n0.25,1,0\n0.25,0,1\n"
    (terminal.folder / "from a (to b).csv").write_text(rows)
    terminal("svc-infer", *convert, "speaker_curve=from a (to b).csv", "match_level=false")
    terminal("svc-infer", *convert, "speaker=anna", "match_level=false")
    terminal("svc-infer", *convert, "speaker=bert", "match_level=false")
    names = ("song_from a (to b).wav", "song_anna.wav", "song_bert.wav")
    change, anna, bert = (read_audio(terminal.folder / name) for name in names)
    assert torch.equal(change[:4096], anna[:4096])
    assert torch.equal(change[-4096:], bert[-4096:])
    assert not torch.equal(anna[-4096:], bert[-4096:])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["knows 2: choose one of anna, bert, or mix them (anna:0.7,bert:0.3)"]),
        (["speaker=ana:1,bert:1"], ["ana is not in this model", "Did you mean anna?"]),
        (["speaker=anna:-1,bert:2"], ["the share of anna is -1"]),
        (["speaker=anna:nan,bert:2"], ["the share of anna is nan"]),
        (["speaker=anna:0,bert:0"], ["the shares add up to 0"]),
        (["speaker=anna:1,anna:1"], ["anna is named twice"]),
        (["speaker=anna,bert"], ["anna has no share; write anna:0.5"]),
        (["speaker="], ["a name is missing"]),
        (["speaker=:1,anna:1"], [" is not in this model; it knows: anna, bert."]),
        (["speaker=anna", "speaker_curve=x.csv"], ["speaker=anna and speaker_curve=x.csv exclude"]),
        (["speaker_curve=none.csv"], ["speaker_curve=none.csv cannot be read"]),
        (["speaker_curve=bad.csv"], ["bad.csv cannot be used", "line 3: the share of bert is x"]),
        (["speaker=anna", "speaker_interpolation=cubic"], ["speaker_interpolation=cubic: choose"]),
        (["speaker=anna", "speaker_curv=x.csv"], ["did you mean speaker_curve?"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_no_voice_is_named(
    terminal: Terminal, convert: list[str], arguments: list[str], parts: list[str]
) -> None:
    (terminal.folder / "bad.csv").write_text("time_s,anna,bert\n0,1,0\n1,0,x\n")
    message = terminal.refused("svc-infer", *convert, *arguments)
    for part in parts:
        assert part in message, message
