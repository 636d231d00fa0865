"""Code and data that a run came from."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from svc.training import provenance as module
from svc.training.provenance import git_state, provenance

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "inner").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "code.py").write_text("1\n")
    git(folder, "add", "code.py")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


@needs_git
def test_a_revision_and_whether_files_differ_from_it(checkout: Path) -> None:
    revision = git(checkout, "rev-parse", "HEAD")
    clean = {"git_revision": revision, "git_dirty": False, "git_checkout": "checkout"}
    assert git_state(checkout) == git_state(checkout / "inner") == clean
    (checkout / "outputs").write_text("what nobody has added does not count\n")
    assert git_state(checkout) == clean
    (checkout / "code.py").write_text("2\n")
    assert git_state(checkout) == {**clean, "git_dirty": True}


@needs_git
def test_where_there_is_no_revision(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {}
    assert git_state(tmp_path / "missing") == {}
    git(tmp_path, "init", "--quiet")
    assert git_state(tmp_path) == {}


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(Path(__file__).parent) == {}


@needs_git
def test_the_code_comes_first_then_the_working_folder(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = object()
    monkeypatch.setattr(module, "dataset_fingerprint", lambda given: "0f" * 8 * (given is store))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    monkeypatch.setattr(module, "__file__", str(checkout / "code.py"))
    facts = provenance(store)
    assert facts["dataset_fingerprint"] == "0f" * 8
    assert facts["svc_version"]
    assert facts["git_revision"] == git(checkout, "rev-parse", "HEAD")

    # Installed into a folder of somebody's checkout that git knows nothing of.
    installed = checkout / "inner" / "code.py"
    installed.touch()
    monkeypatch.setattr(module, "__file__", str(installed))
    assert set(provenance(store)) == {"svc_version", "dataset_fingerprint"}
    monkeypatch.chdir(checkout)
    assert provenance(store)["git_checkout"] == "checkout"
