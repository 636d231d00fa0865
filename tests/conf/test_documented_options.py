"""What the user guide says of groups and options is what is there."""

import re
from pathlib import Path

import pytest

from svc.config.composition import composed
from svc.config.paths import conf_dir

DOCS = Path(__file__).parents[2] / "docs"
NOT_FOR_TRAINING = {"hydra", "task", "local"}
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its head."""
    text = (DOCS / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    lines = text[text.index("|") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def options(group: str) -> set[str]:
    return {path.stem for path in (conf_dir() / group).glob("*.yaml")}


GROUPS = {row[0].strip("`"): row[1] for row in rows("configuration.md", "Groups")}
TRAINERS = {row[0].split("`")[1]: row[1:] for row in rows("training.md", "Trainers")}


def test_every_group_is_listed() -> None:
    there = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    assert GROUPS.keys() == there - NOT_FOR_TRAINING


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_is_listed_and_the_default_is_bold(group: str) -> None:
    listed = set(re.findall(r"`(\w+)`", GROUPS[group]))
    assert listed == options(group) - ({"base"} if group == "trainer" else set())
    primary = (conf_dir() / "train.yaml").read_text(encoding="utf-8")
    default = re.search(rf"^  - {group}: (\w+)$", primary, flags=re.MULTILINE)
    assert default is not None
    bold = re.findall(r"\*\*`(\w+)`\*\*", GROUPS[group])
    assert bold == ([] if default[1] == "null" else [default[1]])


def test_every_trainer_is_listed() -> None:
    assert TRAINERS.keys() == options("trainer") - {"base"}


@pytest.mark.parametrize("name", sorted(TRAINERS.keys() - {"auto"}))
def test_what_is_said_of_a_trainer_is_so(name: str) -> None:
    device, precision, batch, workers = TRAINERS[name]
    config = composed("train", {"content": "mfcc", "trainer": name}, {})
    trainer, data = config["trainer"], config["data"]
    assert trainer["precision"] == PRECISIONS[precision[:4]]
    assert int(batch.split()[0]) == data["batch_size"]
    assert int(workers.split()[0]) == data["workers"]
    assert ("each" in batch) == ("all GPUs" in device) == (trainer["devices"] == -1)
    assert ("CPU" in device) == (trainer["accelerator"] == "cpu")
