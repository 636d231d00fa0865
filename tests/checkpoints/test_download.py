"""Weights arrive whole and verified, or not at all."""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from checkpoints.weights_server import CONTENT, SHA256, Server, serving
from svc.checkpoints import registry
from svc.checkpoints.download import fetch
from svc.checkpoints.pinning import pin_path, require_intact
from svc.checkpoints.registry import Address
from svc.checkpoints.weights import weights_file
from svc.errors import UserError

BLOCK = 65_536
"""What is written at once; the rest of a block that was cut is lost."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def quick(server: Server, folder: Path, **changes: Any) -> Path:
    return fetch(server.weights(**changes), folder, progress=False, pause_s=0.0)


def left_over(folder: Path) -> list[str]:
    """What lies in the folder, besides the lock."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


class TestTransfer:
    def test_a_file_is_whole_and_pinned(self, server: Server, folder: Path) -> None:
        path = quick(server, folder)
        assert path == folder / "voice-model.pt"
        assert path.read_bytes() == CONTENT
        assert json.loads(pin_path(path).read_text())["sha256"] == SHA256
        assert left_over(folder) == ["voice-model.pt", "voice-model.pt.pinned.json"]

    def test_a_file_that_is_there_is_not_fetched(self, server: Server, folder: Path) -> None:
        quick(server, folder)
        quick(server, folder)
        assert server.asked == [None]

    def test_a_bar_shows_the_time_left(
        self, server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fetch(server.weights(), folder)
        shown = capsys.readouterr().err
        assert "voice" in shown
        assert "307.2/307.2 kB" in shown
        assert "left" in shown

    def test_a_cut_transfer_continues_where_it_was(self, server: Server, folder: Path) -> None:
        server.cut_after = [2 * BLOCK + 7, BLOCK]
        assert quick(server, folder).read_bytes() == CONTENT
        assert server.asked == [None, f"bytes={2 * BLOCK}-", f"bytes={3 * BLOCK}-"]

    def test_a_later_call_continues_what_an_earlier_one_began(
        self, server: Server, folder: Path
    ) -> None:
        server.cut_after = [BLOCK] + [0] * 20
        with pytest.raises(UserError, match="the connection was cut"):
            quick(server, folder)
        assert not (folder / "voice-model.pt").exists()
        assert (folder / "voice-model.pt.partial").stat().st_size == BLOCK
        server.cut_after, server.asked = [], []
        assert quick(server, folder).read_bytes() == CONTENT
        assert server.asked == [f"bytes={BLOCK}-"]

    def test_a_line_that_is_cut_often_still_gets_there(self, server: Server, folder: Path) -> None:
        server.content = CONTENT * 4
        server.cut_after = [BLOCK] * 12
        published = {"sha256": hashlib.sha256(CONTENT * 4).hexdigest(), "size_bytes": None}
        assert quick(server, folder, **published).read_bytes() == CONTENT * 4
        assert len(server.asked) == 13

    def test_a_server_without_ranges_starts_again(self, server: Server, folder: Path) -> None:
        server.knows_ranges = False
        server.cut_after = [BLOCK]
        assert quick(server, folder).read_bytes() == CONTENT
        assert server.asked == [None, f"bytes={BLOCK}-"]

    def test_what_is_missing_is_asked_for_behind_a_redirection_too(
        self, server: Server, folder: Path
    ) -> None:
        server.redirects = True
        server.cut_after = [BLOCK]
        assert quick(server, folder).read_bytes() == CONTENT
        assert server.asked == [None, f"bytes={BLOCK}-"]

    def test_a_partial_file_that_is_complete_is_taken(self, server: Server, folder: Path) -> None:
        partial(server, folder, CONTENT)
        assert quick(server, folder).read_bytes() == CONTENT
        assert server.asked == [f"bytes={len(CONTENT)}-"]

    @pytest.mark.parametrize("held", [b"\0" * 1000, b"\0" * (len(CONTENT) + 5)])
    def test_a_partial_file_that_does_not_fit_is_fetched_anew(
        self, server: Server, folder: Path, held: bytes
    ) -> None:
        partial(server, folder, held)
        assert quick(server, folder).read_bytes() == CONTENT
        assert server.asked == [f"bytes={len(held)}-", None]

    def test_a_file_that_has_changed_since_is_not_continued(
        self, server: Server, folder: Path
    ) -> None:
        """Without a published hash only the server's tag tells that the rest is of another."""
        partial(server, folder, b"\0" * 1000, etag='"an older one"')
        assert quick(server, folder, sha256=None).read_bytes() == CONTENT

    def test_without_tag_or_hash_nothing_is_continued(self, server: Server, folder: Path) -> None:
        server.etag = None
        server.cut_after = [BLOCK] + [0] * 20
        with pytest.raises(UserError):
            quick(server, folder, sha256=None)
        server.cut_after, server.asked = [], []
        assert quick(server, folder, sha256=None).read_bytes() == CONTENT
        assert server.asked == [None]

    def test_those_who_want_it_at_once_wait_for_one(self, server: Server, folder: Path) -> None:
        server.cut_after = [BLOCK] * 3
        with ThreadPoolExecutor(4) as pool:
            paths = list(pool.map(lambda _: quick(server, folder), range(4)))
        assert [path.read_bytes() == CONTENT for path in paths] == [True] * 4
        assert len(server.asked) == 4  # all by the first: three cuts and the rest

    def test_a_busy_server_is_asked_again(self, server: Server, folder: Path) -> None:
        server.refusals = [503, 429, 500]
        assert quick(server, folder).read_bytes() == CONTENT


def partial(server: Server, folder: Path, held: bytes, etag: str = '"one"') -> None:
    """As an earlier call would have left it."""
    folder.mkdir()
    (folder / "voice-model.pt.partial").write_bytes(held)
    facts = {"url": server.url, "etag": etag}
    (folder / "voice-model.pt.partial.json").write_text(json.dumps(facts))


class TestRefusal:
    def test_another_file_is_named_with_both_hashes(self, server: Server, folder: Path) -> None:
        server.content = CONTENT[::-1]
        with pytest.raises(UserError, match=rf"SHA-256 is (?!{SHA256}).*expected {SHA256}"):
            quick(server, folder)
        assert left_over(folder) == []
        assert server.asked == [None]

    def test_another_size_is_refused_before_it_is_fetched(
        self, server: Server, folder: Path
    ) -> None:
        server.content = b"<html>Please log in</html>"
        with pytest.raises(UserError, match="gives 26 bytes, expected 307200"):
            quick(server, folder)
        assert left_over(folder) == []

    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_a_missing_file_is_not_asked_for_again(
        self, server: Server, folder: Path, status: int
    ) -> None:
        server.status = status
        with pytest.raises(UserError, match=f"voice-model.pt: answers {status}"):
            quick(server, folder)
        assert server.asked == [None]

    def test_the_next_address_serves_where_one_does_not(self, server: Server, folder: Path) -> None:
        server.refusals = [404]
        addresses = (Address(url=server.url), Address(url=f"{server.url}?mirror"))
        assert quick(server, folder, addresses=addresses).read_bytes() == CONTENT

    def test_what_one_address_gave_is_continued_by_another(
        self, server: Server, folder: Path
    ) -> None:
        partial(server, folder, CONTENT[:1000])
        server.refusals = [404]
        addresses = (Address(url=f"{server.url}?closed"), Address(url=f"{server.url}?mirror"))
        assert quick(server, folder, addresses=addresses).read_bytes() == CONTENT
        assert server.asked == ["bytes=1000-", "bytes=1000-"]

    def test_a_server_that_never_recovers_is_given_up(self, server: Server, folder: Path) -> None:
        server.status = 503
        with pytest.raises(UserError, match="answers 503"):
            quick(server, folder)
        assert len(server.asked) == 5

    def test_nobody_listens(self, server: Server, folder: Path) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = Address(url=f"http://127.0.0.1:{unused.getsockname()[1]}/voice-model.pt")
            with pytest.raises(UserError, match="the server cannot be reached"):
                quick(server, folder, addresses=(address,))

    def test_an_unknown_host(
        self, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(*_: Any, **__: Any) -> None:
            raise socket.gaierror(-3, "Temporary failure in name resolution")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(UserError, match="not known here; is there a network"):
            quick(server, folder)

    def test_a_full_disk(
        self, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Usage(NamedTuple):
            free: int

        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1_000_000))
        with pytest.raises(UserError, match=r"not enough space .*307200 bytes are needed"):
            quick(server, folder)

    def test_a_file_in_place_of_the_folder(self, server: Server, folder: Path) -> None:
        folder.write_text("not a folder")
        with pytest.raises(UserError, match=r"cannot be written.*SVC_CHECKPOINT_DIR"):
            quick(server, folder)


class TestPinning:
    def test_a_published_hash_may_be_known_by_its_first_digits(
        self, server: Server, folder: Path
    ) -> None:
        changes = {"sha256": "f" * 64, "sha256_digits": SHA256[:8]}
        assert quick(server, folder, **changes).is_file()
        (folder / "voice-model.pt").unlink()
        with pytest.raises(UserError, match="expected 01234567…"):
            quick(server, folder, sha256=None, sha256_digits="01234567")

    def test_a_published_file_that_was_changed_is_refused(
        self, server: Server, folder: Path
    ) -> None:
        path = quick(server, folder)
        require_intact(server.weights(), path)
        path.write_bytes(CONTENT[:-1])
        with pytest.raises(UserError, match=rf"307199 bytes.*expected {SHA256} \(as published"):
            require_intact(server.weights(), path)

    def test_an_unpublished_file_is_held_to_what_was_seen_first(
        self, server: Server, folder: Path
    ) -> None:
        unpublished = server.weights(sha256=None)
        path = quick(server, folder, sha256=None)
        path.write_bytes(CONTENT[::-1])
        os.utime(path, ns=(1, 1))
        with pytest.raises(UserError, match=rf"expected {SHA256} \(as at its first use"):
            require_intact(unpublished, path)

    def test_a_file_put_there_by_hand_is_pinned_at_its_first_use(
        self, server: Server, tmp_path: Path
    ) -> None:
        unpublished = server.weights(sha256=None)
        path = tmp_path / unpublished.file
        path.write_bytes(CONTENT)
        require_intact(unpublished, path)
        assert json.loads(pin_path(path).read_text())["sha256"] == SHA256

    def test_a_file_that_was_not_touched_is_not_read_again(
        self, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = quick(server, folder)
        monkeypatch.setattr("svc.checkpoints.pinning.file_sha256", lambda _: "read again")
        require_intact(server.weights(), path)
        os.utime(path, ns=(1, 1))
        with pytest.raises(UserError, match="read again"):
            require_intact(server.weights(), path)


class TestWeightsFile:
    @pytest.fixture(autouse=True)
    def _registry(self, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        restricted = replace(server.weights(), name="restricted", must_accept=True)
        known = {"voice": server.weights(), "restricted": restricted}
        monkeypatch.setattr(registry, "entries", lambda: known)
        monkeypatch.setenv("SVC_CHECKPOINT_DIR", str(folder))
        monkeypatch.delenv("SVC_OFFLINE", raising=False)

    def test_the_first_use_fetches_and_says_so(
        self, server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert weights_file("voice", None) == (folder / "voice-model.pt").resolve()
        assert "Fetching voice once (307200 bytes, licence MIT)" in capsys.readouterr().err
        assert weights_file("voice", None, offline=True).is_file()
        assert server.asked == [None]

    @pytest.mark.parametrize("by", ["setting", "environment"])
    def test_offline_names_what_to_put_where(
        self, server: Server, folder: Path, by: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if by == "environment":
            monkeypatch.setenv("SVC_OFFLINE", "1")
        with pytest.raises(UserError) as caught:
            weights_file("voice", None, offline=by == "setting", alternatives="Hum.")
        for part in ("voice-model.pt", str(folder), "content.model=FILE", server.url, "Hum."):
            assert part in str(caught.value)
        assert server.asked == []
        with pytest.raises(UserError, match="content=mfcc needs no weights"):
            weights_file("voice", None, offline=True)

    def test_a_failed_download_names_what_to_put_where(self, server: Server, folder: Path) -> None:
        server.status = 404
        with pytest.raises(UserError, match=r"answers 404(?s:.*)Put voice-model\.pt .* into"):
            weights_file("voice", None)

    def test_a_restricted_licence_is_not_accepted_in_silence(self, server: Server) -> None:
        with pytest.raises(UserError, match="svc-download restricted accept_licence=true"):
            weights_file("restricted", None)
        assert server.asked == []

    def test_a_given_file_wins_whatever_it_holds(self, server: Server, tmp_path: Path) -> None:
        own = tmp_path / "voice-model.pt"
        own.write_bytes(b"mine")
        assert weights_file("voice", str(own)) == own.resolve()
        assert weights_file("voice", str(tmp_path)) == own.resolve()
        assert server.asked == []

    @pytest.mark.parametrize(("given", "why"), [("nowhere.pt", "does not"), (".", "is a folder")])
    def test_a_given_file_must_be_there(self, given: str, why: str) -> None:
        with pytest.raises(UserError, match=rf"pitch\.model={given} {why}"):
            weights_file("voice", given, setting="pitch.model")

    def test_another_file_in_place_is_named(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "voice-model.pt").write_bytes(b"something else")
        with pytest.raises(UserError, match=rf"14 bytes\), expected {SHA256}"):
            weights_file("voice", None)
