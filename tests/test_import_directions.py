"""Packages of svc import downwards only, in the order that docs/architecture.md gives."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "svc"


def lines_of_the_page() -> list[list[str]]:
    """Names on each line of the first block below "## Packages", from the top."""
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("\n## Packages\n")[1].split("\n## ")[0]
    return [line.split() for line in section.splitlines() if line.startswith("    ")]


def parts() -> dict[str, list[Path]]:
    """The files of every package, and of every module beside the packages, by its name."""
    found: dict[str, list[Path]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found.setdefault(name, []).append(file)
    del found["__init__"]
    return found


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and part of svc of every import in a file, also of those inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("svc.") and name != "svc.__version__":
                yield node.lineno, name.split(".")[1]


LEVELS = {name: level for level, names in enumerate(lines_of_the_page()) for name in names}
PARTS = parts()


def test_the_page_names_every_part_once() -> None:
    assert sorted(name for names in lines_of_the_page() for name in names) == sorted(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_imports_point_downwards(part: str) -> None:
    wrong = [
        f"{file.relative_to(REPOSITORY)}:{line} imports svc.{other}"
        for file in PARTS[part]
        for line, other in imported(file)
        if other != part and LEVELS[other] <= LEVELS[part]
    ]
    assert not wrong
