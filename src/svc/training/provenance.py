"""Which code and which data a run comes from, for dashboards."""

import subprocess
from pathlib import Path
from typing import Any

import svc
from svc.data.fingerprint import dataset_fingerprint
from svc.data.store import FeatureStore

_GIT_S = 10
"""After so long, git is not asked any further: some folders are slow, or not there any more."""


def provenance(store: FeatureStore) -> dict[str, Any]:
    """What is recorded of a run's origin beside its configuration.

    Args:
        store: the prepared dataset.

    Returns:
        `svc_version`, `dataset_fingerprint`, and what `git_state` finds: of the checkout that svc
        runs from, else of the one that the working folder is in.
    """
    facts: dict[str, Any] = {
        "svc_version": svc.__version__,
        "dataset_fingerprint": dataset_fingerprint(store),
    }
    code = Path(__file__)
    # An installed svc may lie in somebody's checkout, which does not make it a part of that.
    is_checkout = _git(code.parent, "ls-files", "--error-unmatch", code.name) is not None
    return facts | git_state(code.parent if is_checkout else Path.cwd())


def git_state(folder: Path) -> dict[str, Any]:
    """The revision of the checkout that a folder is in.

    Returns:
        `git_revision` (40 hexadecimal digits), `git_dirty` (whether files that git knows differ
        from it) and `git_checkout` (the name of its folder); empty outside of a checkout, in one
        without a commit, and where there is no git.
    """
    revision = _git(folder, "rev-parse", "--verify", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    root = _git(folder, "rev-parse", "--show-toplevel")
    if revision is None or changes is None or root is None:
        return {}
    return {
        "git_revision": revision,
        "git_dirty": bool(changes),
        "git_checkout": Path(root).name,
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says, or None where it fails or is not there."""
    try:
        said = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip()
