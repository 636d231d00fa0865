"""A small web server on this machine that serves one file, and misbehaves where it is told to."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from svc.checkpoints.registry import Address, Weights

CONTENT = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What is served, how, and what was asked for."""

    url: str = ""
    content: bytes = CONTENT
    status: int = 200
    knows_ranges: bool = True
    etag: str | None = '"one"'
    redirects: bool = False
    """As release pages do, to where the file lies today."""
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks off."""
    refusals: list[int] = field(default_factory=list)
    """Status of each of the next answers."""
    asked: list[str | None] = field(default_factory=list)
    """The Range header of every request."""

    def weights(self, **changes: Any) -> Weights:
        """An entry that is served here."""
        entry = Weights(
            name="voice",
            kind="content",
            file="voice-model.pt",
            addresses=(Address(url=self.url),),
            sha256=SHA256,
            sha256_digits=None,
            hash_from="the test",
            size_bytes=len(CONTENT),
            licence="MIT",
            licence_note="Nobody in particular.",
            must_accept=False,
            used_by="content=voice",
            source="https://example.org/voice",
        )
        return replace(entry, **changes)


@contextmanager
def serving() -> Iterator[Server]:
    """A server on the loopback interface, for as long as the block lasts."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if server.redirects and not self.path.endswith("?today"):
                self.send_response(302)
                self.send_header("Location", f"{server.url}?today")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            wanted = self.headers.get("Range")
            server.asked.append(wanted)
            status = server.refusals.pop(0) if server.refusals else server.status
            if status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self._answer(wanted)

        def _answer(self, wanted: str | None) -> None:
            start, total = 0, len(server.content)
            condition = self.headers.get("If-Range")
            if wanted and server.knows_ranges and condition in (None, server.etag):
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
                if start >= total:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            if server.etag:
                self.send_header("ETag", server.etag)
            self.send_header("Content-Length", str(total - start))
            self.end_headers()
            stop = start + server.cut_after.pop(0) if server.cut_after else total
            self.wfile.write(server.content[start:stop])
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/voice-model.pt"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
