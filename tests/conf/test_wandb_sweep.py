"""The sweep for Weights & Biases calls svc-train in a way that svc-train understands."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from command_line import Terminal

SWEEP = Path(__file__).resolve().parents[2] / "sweep.yaml"


def commands() -> list[list[str]]:
    """What wandb's agent would run with the first and with the last value of every parameter."""
    sweep = yaml.safe_load(SWEEP.read_text(encoding="utf-8"))
    made = []
    for pick in (0, -1):
        chosen = {name: {"value": _value(node, pick)} for name, node in sweep["parameters"].items()}
        macros = {**create_sweep_command_args({"args": chosen}), "env": []}
        command: list[str] = []
        for word in create_sweep_command(list(sweep["command"])):
            macro = word.removeprefix("${").removesuffix("}")
            command += macros[macro] if word.startswith("${") else [word]
        made.append(command)
    return made


def _value(node: dict[str, Any], pick: int) -> Any:
    return node["values"][pick] if "values" in node else (node["min"], node["max"])[pick]


@pytest.mark.parametrize("command", commands(), ids=["first", "last"])
def test_the_agents_command_line_is_understood(command: list[str], terminal: Terminal) -> None:
    program, *arguments = command
    said = terminal(program, *arguments, "--cfg", "job")
    composed = yaml.safe_load(said.out)
    sweep = yaml.safe_load(SWEEP.read_text(encoding="utf-8"))
    assert set(composed["logger"]) == {"csv", "wandb"}
    assert composed["logger"]["wandb"]["project"] == sweep["project"]
    typed = dict(argument.split("=", 1) for argument in arguments)
    assert composed["optim"]["lr"] == float(typed["optim.lr"])
    assert set(sweep["parameters"]) <= set(typed)


def test_it_judges_by_a_metric_that_runs_log() -> None:
    from svc.training.run_summary import SCORE

    assert yaml.safe_load(SWEEP.read_text(encoding="utf-8"))["metric"]["name"] == SCORE
