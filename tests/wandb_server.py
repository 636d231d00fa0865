"""A server of Weights & Biases on this machine, for wandb's own client to talk to in tests."""

import gzip
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from wandb_backend import WandbBackend, operation_of

KEY = "0123456789abcdef" * 2 + "01234567"
"""For WANDB_API_KEY; any of this length will do."""

_STREAM = re.compile(r"/files/[^/]+/[^/]+/([^/]+)/file_stream")


class _Http(ThreadingHTTPServer):
    """Clients may leave whenever they like."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing on the terminal."""


class WandbServer:
    """Use it as a context; it listens from the start.

    What has arrived is in `backend`.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        """Every request in order: the operation of GraphQL, "file_stream", or its path."""
        self.unknown: list[str] = []
        """Requests that it could not answer, with the reason: a fault of this server."""
        self.failing: Callable[[str], bool] = lambda request: False
        """Whether a request, as it is in `asked`, is answered with status 500."""
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        """For WANDB_BASE_URL."""
        self.backend = WandbBackend(self.address)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Vanish: from now on connections are refused."""
        self.failing = lambda request: True  # of connections that are still open
        self._http.shutdown()
        self._http.server_close()

    def respond(self, method: str, path: str, content: bytes) -> tuple[int, dict[str, Any]]:
        """Status and body of an answer."""
        stream = _STREAM.fullmatch(path)
        query = json.loads(content) if path == "/graphql" else {}
        request = operation_of(query["query"]) if query else "file_stream" if stream else path
        self.asked.append(request)
        if self.failing(request):
            return 500, {"error": "told to fail"}
        try:
            if query:
                return 200, {
                    "data": self.backend.answer(query["query"], query.get("variables") or {})
                }
            if stream:
                return 200, self.backend.stream(stream[1], json.loads(content))
            if method == "PUT":
                self.backend.upload(path, content)
            return 200, {}
        except Exception as error:
            self.unknown.append(f"{request}: {error!r}")
            return 400, {"errors": [{"message": repr(error)}]}


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    """How connections to a server are served."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            status, body = server.respond(self.command, urlsplit(self.path).path, self._content())
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815 - as http.server calls them

        def _content(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                content = b"".join(iter(self._chunk, b""))
            else:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_packed = self.headers.get("Content-Encoding") == "gzip"
            return gzip.decompress(content) if is_packed else content

        def _chunk(self) -> bytes:
            content = self.rfile.read(int(self.rfile.readline(), 16))
            self.rfile.readline()
            return content

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    return Handler
