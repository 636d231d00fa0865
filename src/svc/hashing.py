"""Which bytes a file holds."""

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
