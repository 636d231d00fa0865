"""The workspace names metrics and media that runs really log, and is built without a network."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning
import pytest

from svc.errors import UserError
from svc.training.adversary import AdversarialOptions
from svc.training.callbacks.alarms import TrainingAlarms
from svc.training.callbacks.samples import ValidationSamples
from svc.training.dashboard import SECTIONS, LinePanel, MediaPanel, TablePanel, line_metrics
from svc.training.loggers import wandb_logger
from svc.training.runs import fit
from svc.training.wandb_record import read_records
from training import tiny_mel_singer
from training.tiny_training import SPEC, TinyData, tiny_module, tiny_trainer
from wandb_served import ENTITY
from wandb_server import KEY, WandbServer

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "wandb_workspace.py"
ON_GPUS_ONLY = {"perf/gpu_mem_gib"}
PANELS = [panel for section in SECTIONS for panel in section.panels]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wandb_workspace", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """To which wandb goes in commands that a test starts."""
    with WandbServer() as started:
        for name, value in (
            ("HOME", str(tmp_path / "home")),
            ("WANDB_BASE_URL", started.address),
            ("WANDB_API_KEY", KEY),
            ("WANDB_HTTP_TIMEOUT", "1"),
        ):
            monkeypatch.setenv(name, value)
        yield started


def test_every_panel_is_in_the_view(script: ModuleType) -> None:
    pytest.importorskip("wandb_workspaces")
    view = script.workspace("us", "svc")._to_model()
    assert (view.entity, view.project, view.display_name) == ("us", "svc", "svc")
    sections = view.spec.section.panel_bank_config.sections
    assert [section.name for section in sections] == [section.title for section in SECTIONS]
    drawn: set[str] = set()
    for section, wanted in zip(sections, SECTIONS, strict=True):
        assert len(section.panels) == len(wanted.panels)
        places = [(panel.layout.x, panel.layout.y) for panel in section.panels]
        assert len(set(places)) == len(places)
        for panel in section.panels:
            metrics = getattr(panel.config, "metrics", None)
            if metrics is not None:
                assert panel.config.x_axis == "trainer/global_step"
                drawn |= set(metrics)
    assert drawn == line_metrics()


def test_the_documentation_explains_every_panel() -> None:
    page = (SCRIPT.parents[1] / "docs" / "dashboards.md").read_text(encoding="utf-8")
    for section in SECTIONS:
        assert f"\n### {section.title}\n" in page
        for panel in section.panels:
            if isinstance(panel, LinePanel) and panel.title != "Alarms":
                assert f"\n| {panel.title} |" in page


@pytest.mark.slow
def test_the_view_can_be_seen_without_saving_it(tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--print", "--project", "voices"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "valid_loss" in json.dumps(json.loads(done.stdout))


def test_without_the_package_it_says_what_to_install(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(UserError, match=r"pip install 'svc\[dashboards\]'"):
        script.workspace("us", "svc")


def test_without_a_key_nothing_is_saved(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "has_wandb_key", lambda: False)
    monkeypatch.setattr(sys, "argv", ["wandb_workspace.py"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert "wandb login" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("entity", [[], ["--entity", ENTITY]])
def test_the_view_is_saved_into_the_project(
    entity: list[str], server: WandbServer, tmp_path: Path
) -> None:
    """As a user types it, against a server on this machine."""
    pytest.importorskip("wandb_workspaces")
    words = [sys.executable, str(SCRIPT), *entity, "--project", "voices"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (view,) = server.backend.views.values()
    assert (view["entityName"], view["projectName"]) == (ENTITY, "voices")
    assert (view["type"], view["displayName"]) == ("project-view", "svc")
    sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [section.title for section in SECTIONS]
    address = done.stdout.strip()
    assert address.startswith(f"{server.address}/{ENTITY}/voices")
    assert address.endswith(view["name"].removeprefix("nw-").removesuffix("-v"))


@pytest.mark.slow
def test_a_view_that_is_refused_is_told_of(server: WandbServer, tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    server.failing = lambda request: request == "UpsertView2"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--entity", ENTITY, "--project", "voices"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "could not be saved into the project voices" in done.stderr


def logged_names(run: Path, module: lightning.LightningModule, precision: Any) -> set[str]:
    """Train for a few steps; every name in the history of the offline run."""
    callbacks = [ValidationSamples(run / "samples", SPEC), TrainingAlarms()]
    logger = wandb_logger("svc", str(run), offline=True)
    trainer = tiny_trainer(run, 4, callbacks, 2, loggers=[logger], precision=precision)
    fit(trainer, module, TinyData())
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    rows = [record.history.item for record in read_records(file) if record.HasField("history")]
    return {"/".join(item.nested_key) or item.key for row in rows for item in row}


@pytest.mark.slow
def test_runs_log_whatever_a_panel_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with_penalty = AdversarialOptions(r1_weight=1.0, r1_every_steps=1)
    logged = {
        "gan": logged_names(tmp_path / "g", tiny_module(adversarial=with_penalty), "16-mixed"),
        "diffusion": logged_names(
            tmp_path / "d", tiny_mel_singer.tiny_module("diffusion"), "32-true"
        ),
        "flow": logged_names(tmp_path / "f", tiny_mel_singer.tiny_module("flow"), "32-true"),
    }
    names = set().union(*logged.values())
    assert line_metrics() - names == ON_GPUS_ONLY
    for panel in PANELS:
        if isinstance(panel, MediaPanel):
            seen = {name for name in names if name.startswith(tuple(f"{k}/" for k in panel.keys))}
            assert {"/".join(name.split("/")[:3]) for name in seen} == set(panel.keys)
        if isinstance(panel, TablePanel):
            assert all(f"{panel.table}/path" in of_run for of_run in logged.values())
    # And whatever a run logs can be seen in some panel.
    shown = line_metrics() | {"trainer/global_step"}
    others = {n for n in names - shown if not n.startswith(("_", "sample/", "samples/"))}
    assert others == set()
