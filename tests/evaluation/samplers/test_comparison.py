"""The table of samplers: what is measured, what it says, and what is refused."""

import csv
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from rich.console import Console

from svc.audio.io import write_audio
from svc.config.instantiate import build
from svc.config.paths import conf_dir
from svc.config.resolvers import register_resolvers
from svc.config.schema import register_schemas
from svc.errors import UserError, UserErrors
from svc.evaluation.samplers import tables
from svc.evaluation.samplers.comparison import SamplerComparison
from svc.evaluation.task import Candidate
from tiny_checkpoint import checkpoint

__all__ = ["checkpoint"]

BUDGETS = [1, 2, 3, 8, 16, 40]
REFERENCE = 60


@pytest.fixture(scope="module")
def nodes() -> dict[str, Any]:
    """The candidates of conf/task/samplers.yaml."""
    register_schemas()
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("eval", ["task=samplers", "task.checkpoint=a.ckpt"])
    found: dict[str, Any] = OmegaConf.to_container(config.task.candidates, resolve=True)  # type: ignore[assignment]
    return found


@pytest.fixture(autouse=True)
def _judge_untrained_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "WIDEST_RANGE_NEPERS", float("inf"))


@pytest.fixture
def task(
    nodes: dict[str, Any], checkpoint: Callable[..., Path], tmp_path: Path
) -> Callable[..., SamplerComparison]:
    time_s = torch.arange(22_050) / 44_100
    buzz = sum(torch.sin(2 * torch.pi * 150 * k * time_s) / k for k in range(1, 9))
    write_audio(tmp_path / "songs/anna.wav", 0.2 * torch.as_tensor(buzz))

    def make(arch: str = "diffsvc", **changes: Any) -> SamplerComparison:
        settings: dict[str, Any] = {
            "checkpoint": str(checkpoint(arch)),
            "evaluations": BUDGETS,
            "default": {"diffusion": "unipc", "flow": "euler"},
            "predecessor": "unipc_published",
            "reference_evaluations": REFERENCE,
            "recordings": str(tmp_path / "songs"),
            "seconds": 0.3,
            "console": Console(file=StringIO()),
        }
        candidates = [Candidate(name, partial(build, node)) for name, node in nodes.items()]
        return SamplerComparison(candidates, **(settings | changes))

    return make


def measured(folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Rows by sampler and evaluations."""
    with (folder / "samplers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["sampler"], {})[int(row["evaluations"])] = row
    return found


def test_a_diffusion_model_is_sampled_with_every_sampler_of_its_kind(
    task: Callable[..., SamplerComparison], tmp_path: Path, nodes: dict[str, Any]
) -> None:
    said = task(evaluations=[*BUDGETS, REFERENCE]).run(tmp_path)
    rows = measured(tmp_path)
    assert set(rows) == set(nodes) - {"euler", "heun"}
    assert {path.stem for path in (conf_dir() / "sampler").glob("*.yaml")} <= set(nodes)
    for name, its in rows.items():
        assert all((row["random"] == "True") == (name == "ddpm") for row in its.values()), name
        assert all(float(row["seconds_per_second"]) > 0 for row in its.values())
    for name in ("unipc", "unipc_3", "dpm_solver_pp", "ddim"):
        errors = {count: float(row["distance_percent"]) for count, row in rows[name].items()}
        assert errors[1] > errors[3] > errors[8] > errors[16] > errors[40], name
    # The converged solution is UniPC with as many evaluations, and found again to the bit.
    assert float(rows["unipc"][REFERENCE]["distance_percent"]) == 0
    assert 0 < float(rows["dpm_solver_pp"][REFERENCE]["distance_percent"]) < 0.05
    assert min(float(row["distance_percent"]) for row in rows["ddpm"].values()) > 5
    # One step begun by a better one costs two, and then every further step one.
    assert sorted(rows["plms"]) == [1, 3, 8, 16, 40, REFERENCE]
    assert [int(rows["plms"][count]["steps"]) for count in (1, 3, 8)] == [1, 2, 7]
    # The default and the predecessor are measured with their own steps whatever is asked for.
    assert {20} == set(rows["unipc"]) - {*BUDGETS, REFERENCE}
    assert {100} == set(rows["unipc_published"]) - {*BUDGETS, REFERENCE}
    assert "| unipc_published |" in said
    assert "`unipc` with 20 evaluations" in said
    assert "`unipc_published` with 100 evaluations" in said
    assert (tmp_path / "samplers.md").read_text() in said
    assert (tmp_path / "samplers.png").read_bytes().startswith(b"\x89PNG")


def test_a_flow_model_is_sampled_with_euler_and_heun(
    task: Callable[..., SamplerComparison], tmp_path: Path
) -> None:
    said = task("flowsvc").run(tmp_path)
    rows = measured(tmp_path)
    assert set(rows) == {"euler", "heun"}
    euler, heun = (
        {count: float(row["distance_percent"]) for count, row in rows[name].items()}
        for name in ("euler", "heun")
    )
    assert euler[1] > euler[8] > euler[40]
    assert sorted(heun) == [1, 3, 7, 15, 39]  # two evaluations per step but for the last
    assert heun[1] > heun[7] > heun[39]
    assert "`euler` with 20 evaluations" in said
    assert "draw noise" not in said


def test_the_voices_are_those_of_the_names(
    task: Callable[..., SamplerComparison], tmp_path: Path
) -> None:
    few: dict[str, Any] = {"samplers": ["unipc"], "evaluations": [4], "reference_evaluations": 10}
    task(**few).run(tmp_path)
    (tmp_path / "songs/anna.wav").rename(tmp_path / "songs/bert.wav")
    other = tmp_path / "other"
    other.mkdir()
    task(**few).run(other)
    one, two = (measured(folder)["unipc"][4]["distance_nepers"] for folder in (tmp_path, other))
    assert one != two


@pytest.mark.parametrize(
    ("arch", "changes", "reason"),
    [
        ("hifisinger", {}, r"is a HifiSinger, which samples nothing\. Give task\.checkpoint"),
        ("nsf_hifigan", {}, "is a NsfHifiGan, which samples nothing"),
        ("diffsvc", {"samplers": ["unipk"]}, "'unipk' is no sampler; did you mean unipc?"),
        ("diffsvc", {"samplers": []}, "task.samplers cannot be used"),
        ("diffsvc", {"samplers": ["heun"]}, "is for flow models"),
        ("flowsvc", {"samplers": ["ddpm"]}, "is for diffusion models"),
        ("diffsvc", {"evaluations": [5, 0]}, r"task\.evaluations=\[5, 0\]"),
        ("diffsvc", {"evaluations": []}, r"task\.evaluations=\[\]"),
        ("diffsvc", {"reference_evaluations": 2}, r"task\.reference_evaluations=2"),
        ("diffsvc", {"seconds": 0.0}, r"task\.seconds=0"),
        ("diffsvc", {"seed": -1}, "seed=-1"),
        ("diffsvc", {"device": "tpu"}, "device=tpu"),
    ],
)
def test_what_cannot_work_is_explained(
    arch: str, changes: dict[str, Any], reason: str, task: Callable[..., SamplerComparison]
) -> None:
    with pytest.raises((UserError, UserErrors), match=reason):
        task(arch, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recordings": "nowhere"}, r"task\.recordings=nowhere"),
        ({"seconds": 1e-4}, "less than a frame"),
    ],
)
def test_nothing_to_hear_is_explained(
    changes: dict[str, Any],
    reason: str,
    task: Callable[..., SamplerComparison],
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=reason):
        task(**changes).run(tmp_path)
