"""`svc-download` as people type it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoints.weights_server import CONTENT, SHA256, Server, serving
from command_line import Terminal
from svc.checkpoints import registry
from svc.cli.download import gather_names


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves "voice", "other" and, under a licence that restricts use, "vocoder"."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "SVC_OFFLINE", "SVC_CHECKPOINT_DIR"):
        monkeypatch.delenv(name, raising=False)
    with serving() as started:
        voice = started.weights()
        other = replace(voice, name="other", file="other.pt", kind="pitch")
        vocoder = replace(
            voice, name="vocoder", file="v.zip", licence="CC BY-NC-SA 4.0", must_accept=True
        )
        packaged = replace(voice, name="packaged", file="packaged", addresses=())
        known = {weights.name: weights for weights in (voice, other, vocoder, packaged)}
        monkeypatch.setattr(registry, "entries", lambda: known)
        yield started


@pytest.mark.parametrize("names", [["voice", "other"], ["voice,other"], ["name=[voice,other]"]])
def test_names_are_fetched_and_their_licence_is_said(
    terminal: Terminal, server: Server, names: list[str]
) -> None:
    said = terminal("svc-download", *names)
    for file in ("voice-model.pt", "other.pt"):
        assert (terminal.folder / "checkpoints" / file).read_bytes() == CONTENT
    assert "voice (307200 bytes), licence MIT: Nobody in particular." in said.out
    again = terminal("svc-download", *names)
    assert again.out.count("is there and intact (licence MIT)") == 2
    assert len(server.asked) == 2


@pytest.mark.parametrize("arguments", [[], ["list"], ["name=list"], ["name=null"]])
def test_alone_it_lists_what_there_is(
    terminal: Terminal, server: Server, arguments: list[str]
) -> None:
    (terminal.folder / "checkpoints").mkdir()
    (terminal.folder / "checkpoints" / "other.pt").write_bytes(CONTENT)
    said = terminal("svc-download", *arguments).out
    assert "voice            307200 bytes, licence MIT\n" in said
    assert "licence CC BY-NC-SA 4.0, to be accepted: accept_licence=true" in said
    assert "for content=voice" in said
    assert said.count("not in checkpoints") == 3
    assert f"here: {Path('checkpoints/other.pt')}" in said
    assert server.asked == []


def test_an_unknown_name_is_answered_with_those_there_are(
    terminal: Terminal, server: Server
) -> None:
    message = terminal.refused("svc-download", "voice", "vocder")
    assert "name=vocder: there are no weights of that name. Did you mean vocoder" in message
    assert "licence CC BY-NC-SA 4.0, to be accepted" in message
    assert list(terminal.folder.iterdir()) == []


def test_a_restricted_licence_has_to_be_accepted(terminal: Terminal, server: Server) -> None:
    message = terminal.refused("svc-download", "voice", "vocoder")
    assert "vocoder is under CC BY-NC-SA 4.0" in message
    assert "accept_licence=true" in message
    assert server.asked == []
    terminal("svc-download", "vocoder", "accept_licence=true")
    assert (terminal.folder / "checkpoints" / "v.zip").is_file()


@pytest.mark.parametrize("by", ["setting", "environment"])
def test_offline_names_the_file_its_place_and_what_works_without(
    terminal: Terminal, server: Server, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "environment":
        monkeypatch.setenv("SVC_OFFLINE", "1")
    offline = ["offline=true"] if by == "setting" else []
    message = terminal.refused("svc-download", "voice", *offline, "checkpoint_dir=my weights")
    for part in ("voice-model.pt", str(terminal.folder / "my weights"), server.url):
        assert part in message
    assert "content=mfcc needs no weights" in message
    message = terminal.refused("svc-download", "other", *offline)
    assert "pitch=parselmouth needs no weights" in message
    assert server.asked == []


def test_one_that_cannot_be_had_does_not_keep_the_others(
    terminal: Terminal, server: Server
) -> None:
    server.refusals = [404]
    message = terminal.refused("svc-download", "voice", "other", "packaged")
    assert "voice-model.pt: answers 404" in message
    assert "packaged is not fetched by svc-download" in message
    assert (terminal.folder / "checkpoints" / "other.pt").is_file()
    assert not (terminal.folder / "checkpoints" / "voice-model.pt").exists()


def test_a_file_that_is_another_is_named_with_both_hashes(
    terminal: Terminal, server: Server
) -> None:
    (terminal.folder / "checkpoints").mkdir()
    (terminal.folder / "checkpoints" / "voice-model.pt").write_bytes(b"a web page")
    message = terminal.refused("svc-download", "voice")
    assert SHA256 in message
    assert "10 bytes" in message


@pytest.mark.parametrize(
    ("typed", "composed"),
    [
        ([], []),
        (["a", "offline=true", "b"], ["offline=true", "name=['a','b']"]),
        (["name=a,b", "c"], ["name=['a','b','c']"]),
        (["name=[a,b]"], ["name=[a,b]"]),
        (["--cfg", "job", "a"], ["--cfg", "job", "name=['a']"]),
        (["--config-dir", "mine"], ["--config-dir", "mine"]),
        (["+x=1", "~y", "--help"], ["+x=1", "~y", "--help"]),
    ],
)
def test_bare_words_are_names(typed: list[str], composed: list[str]) -> None:
    assert gather_names(typed) == composed
