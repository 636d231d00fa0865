"""One HTTP request for a file, or for what is still missing of it."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

import requests

from svc.checkpoints.registry import Weights, shown_size
from svc.errors import UserError

_CONNECT_TIMEOUT_S = 4.0
_READ_TIMEOUT_S = 30.0
_BLOCK_BYTES = 1 << 16
"""What a cut can lose at the most."""
_SPARE_BYTES = 64 << 20
"""Left free on the disk."""


class Refused(Exception):
    """An address does not give the file, and asking it again would not help."""


class Cut(Exception):
    """The transfer ended early; asking again may help."""


@dataclass(frozen=True)
class Partial:
    """What has arrived of a file, and what must be true for the rest to fit it."""

    path: Path
    facts: Path
    """Where it came from, and the server's tag of it, as JSON."""

    @classmethod
    def beside(cls, target: Path) -> "Partial":
        """That of the file which is to be `target`."""
        return cls(
            target.with_name(f"{target.name}.partial"),
            target.with_name(f"{target.name}.partial.json"),
        )

    def size_bytes(self) -> int:
        """How much has arrived."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def recorded(self) -> dict[str, Any]:
        """`url` and `etag`, or nothing."""
        try:
            facts = json.loads(self.facts.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def remove(self) -> None:
        """Start anew."""
        for path in (self.path, self.facts):
            path.unlink(missing_ok=True)


def kept_bytes(partial: Partial, url: str, weights: Weights) -> int:
    """How much of what has arrived can be continued: the rest must be of the same file, which is
    told by the server's tag, or found out by the published hash."""
    facts = partial.recorded()
    same = weights.sha256 is not None or (facts.get("url") == url and facts.get("etag"))
    return partial.size_bytes() if same else 0


def transfer(weights: Weights, url: str, partial: Partial, progress: bool) -> None:
    """One request, for what is still missing of a file.

    Args:
        weights: what is fetched.
        url: from where.
        partial: takes what arrives.
        progress: show a bar with the time left, on the standard error.

    Raises:
        Refused: this address does not give the file.
        Cut: the transfer ended early.
        UserError: there is no space.
        OSError: the file cannot be written.
    """
    offset = kept_bytes(partial, url, weights)
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        facts = partial.recorded()
        if facts.get("url") == url and facts.get("etag"):
            headers["If-Range"] = facts["etag"]
    try:
        with requests.get(
            url, headers=headers, stream=True, timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S)
        ) as response:
            if _is_complete(response, offset):
                return
            if not _fits(response, offset):
                partial.remove()
                raise Cut("has nothing that continues what has arrived")
            offset, total = _announced(response)
            if weights.size_bytes and total not in (None, weights.size_bytes):
                raise Refused(f"gives {total} bytes, expected {weights.size_bytes}")
            _require_space(partial.path.parent, (total or weights.size_bytes or 0) - offset)
            _record(partial, url, response)
            _write(response, partial.path, offset, total, weights, progress)
    except requests.RequestException as error:
        _explain(error)


def _is_complete(response: requests.Response, offset: int) -> bool:
    """Whether the server says that nothing is missing."""
    if response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return False
    return response.headers.get("Content-Range") == f"bytes */{offset}"


def _fits(response: requests.Response, offset: int) -> bool:
    """Whether a partial answer begins where we ended."""
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        return _content_range(response)[0] == offset
    return response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """(first byte of the body, size of the whole file), where they are told."""
    told = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if told is None:
        return None, None
    return int(told[1]), None if told[2] == "*" else int(told[2])


def _announced(response: requests.Response) -> tuple[int, int | None]:
    """(position that the body starts at, size of the whole file where it is told)."""
    status = response.status_code
    if status == HTTPStatus.PARTIAL_CONTENT:
        first, total = _content_range(response)
        return first or 0, total
    if status == HTTPStatus.OK:  # also of a server that knows no ranges: from the start then
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    answer = f"answers {status} {response.reason or ''}".rstrip()
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:
        raise Cut(answer)
    raise Refused(answer)


def _record(partial: Partial, url: str, response: requests.Response) -> None:
    """Keep what tells whether the file is still the same when the rest is fetched."""
    etag = response.headers.get("ETag", "")
    strong = etag if etag.startswith('"') else None  # a weak tag cannot vouch for bytes
    partial.facts.write_text(json.dumps({"url": url, "etag": strong}), encoding="utf-8")


def _write(
    response: requests.Response,
    path: Path,
    offset: int,
    total: int | None,
    weights: Weights,
    progress: bool,
) -> None:
    arrived = offset
    with (
        path.open("r+b" if offset else "wb") as file,
        _bar(weights, offset, total, progress) as bar,
    ):
        file.seek(offset)
        for block in response.iter_content(_BLOCK_BYTES):
            file.write(block)
            arrived += len(block)
            bar(len(block))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and arrived < total:
        raise Cut(f"the connection was cut after {arrived} of {total} bytes")


def _require_space(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes + _SPARE_BYTES > free_bytes:
        raise UserError(
            f"There is not enough space in {folder}: {shown_size(needed_bytes)} are needed, "
            f"{shown_size(free_bytes)} are free. Make room or name another folder with "
            f"SVC_CHECKPOINT_DIR."
        )


def _explain(error: requests.RequestException) -> NoReturn:
    """Tell a transfer that was cut from one that never can be."""
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        raise Refused(f"its certificate is not trusted ({text})") from error
    if isinstance(error, requests.exceptions.ProxyError):
        raise Refused("the proxy cannot be reached; see HTTPS_PROXY") from error
    if "NameResolutionError" in text or "getaddrinfo" in text:
        raise Refused("the name of the server is not known here; is there a network?") from error
    if isinstance(error, requests.exceptions.ConnectTimeout) or "NewConnectionError" in text:
        raise Refused("the server cannot be reached; is there a network?") from error
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        raise Cut("the connection was cut") from error
    if isinstance(error, requests.Timeout):
        raise Cut("the server stopped answering") from error
    raise Refused(text) from error


@contextmanager
def _bar(weights: Weights, offset: int, total: int | None, progress: bool) -> Iterator[Any]:
    """A function that is told how many bytes have come."""
    if not progress:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(weights.name, total=total or weights.size_bytes, completed=offset)
        yield lambda count: shown.update(task, advance=count)
