"""The weights of other projects that are fetched by name, and what is published about them."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from svc.errors import UserError

Kind = Literal["content", "pitch", "vocoder"]

_FILE = Path(__file__).with_name("registry.yaml")


@dataclass(frozen=True)
class Address:
    """One place that a file can be had from."""

    url: str | None = None
    """A direct address, or None for a file on huggingface.co."""
    huggingface: str | None = None
    """The repository, owner/name."""
    file: str | None = None
    """The file in that repository."""
    revision: str | None = None
    """The commit, all forty digits, so that the file cannot change."""

    def resolved(self) -> str:
        """The URL; for huggingface.co with the mirror that HF_ENDPOINT names, if it does."""
        if self.url is not None:
            return self.url
        from huggingface_hub import hf_hub_url

        if self.huggingface is None or self.file is None:
            raise ValueError(f"an address needs url, or huggingface and file: {self}")
        mirror = os.environ.get("HF_ENDPOINT") or None
        return hf_hub_url(self.huggingface, self.file, revision=self.revision, endpoint=mirror)


@dataclass(frozen=True)
class Weights:
    """One file of weights."""

    name: str
    """What the user types."""
    kind: Kind
    """What it is for."""
    file: str
    """Its name in the checkpoints folder."""
    addresses: tuple[Address, ...]
    """Tried in this order. Empty where another library fetches it by itself."""
    sha256: str | None
    """Of the whole file as published, 64 digits; None where nobody publishes one."""
    sha256_digits: str | None
    """Leading digits that are published besides; a file that begins with them is taken as well."""
    hash_from: str
    """Where the hash is published, or why there is none."""
    size_bytes: int | None
    """As published."""
    licence: str
    licence_note: str
    must_accept: bool
    """The licence restricts use, so that the user has to accept it in words."""
    used_by: str
    """The settings of svc that read it."""
    source: str
    """Page of those who made it."""

    def accepts(self, sha256: str) -> bool | None:
        """Whether a file with this hash is the published one; None where nothing is published."""
        if self.sha256 is None and self.sha256_digits is None:
            return None
        by_digits = self.sha256_digits is not None and sha256.startswith(self.sha256_digits)
        return sha256 == self.sha256 or by_digits

    def expected_hash(self) -> str:
        """The published hash in words, for messages."""
        known = [self.sha256, self.sha256_digits and f"{self.sha256_digits}…"]
        return " or ".join(value for value in known if value) or "none published"


def entries() -> Mapping[str, Weights]:
    """Every entry by name, in the order of the file."""
    return _read()[0]


def alternatives(kind: Kind) -> str:
    """What works without downloaded weights, in a sentence or two."""
    return _read()[1][kind]


def entry(name: str) -> Weights:
    """The entry of that name; hyphens may stand for underscores.

    Raises:
        UserError: there is none; names those that are near, and all.
    """
    known = entries()
    wanted = name.strip().lower().replace("-", "_").replace(".", "_")
    if wanted in known:
        return known[wanted]
    near = get_close_matches(wanted, known, n=3, cutoff=0.4)
    near += [other for other in known if wanted and wanted in other and other not in near]
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise UserError(
        f"name={name}: there are no weights of that name. {hint}Known are: {', '.join(known)}."
    )


def shown_size(size_bytes: int | None) -> str:
    """378435957 -> "378 MB"."""
    if size_bytes is None:
        return "size not published"
    if size_bytes < 1_000_000:
        return f"{size_bytes} bytes"
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


@functools.cache
def _read() -> tuple[dict[str, Weights], dict[Kind, str]]:
    import yaml

    plain: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    found = {
        name: Weights(
            **{**values, "addresses": tuple(Address(**item) for item in values["addresses"])},
            name=name,
        )
        for name, values in plain["weights"].items()
    }
    return found, {kind: plain["alternatives"][kind] for kind in get_args(Kind)}
