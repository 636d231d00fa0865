"""A search that was killed goes on where it was."""

import csv
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from cli.test_processes import TINY
from svc.cli import search
from svc.cli.search import ResumeSearch
from svc.config.paths import conf_dir
from svc.config.resolvers import register_resolvers
from svc.config.schema import register_schemas

optuna = pytest.importorskip("optuna")
pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")

Composed = Callable[..., Any]


@pytest.fixture
def composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Composes a search as the launching process of svc-train does."""
    monkeypatch.chdir(tmp_path)
    register_schemas()
    register_resolvers()
    before = HydraConfig.instance().cfg
    GlobalHydra.instance().clear()

    def compose_search(*overrides: str) -> Any:
        typed = ["experiment=demo", "hparams_search=optuna", "run_name=find", *overrides]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose("train", typed, return_hydra_config=True)

    yield compose_search
    HydraConfig.instance().cfg = before
    GlobalHydra.instance().clear()


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    yield
    killed()


def killed() -> None:
    """What the end of a process does to its search."""
    if search._lock is not None:
        search._lock.release()


def study() -> Any:
    return optuna.load_study(study_name="find", storage="sqlite:///outputs/multirun/find/search.db")


def begin(config: Any) -> Any:
    ResumeSearch().on_multirun_start(config)
    return config.hydra


def test_a_new_search_has_all_its_trials_before_it(composed: Composed) -> None:
    hydra = begin(composed("hydra.sweeper.n_trials=5"))
    assert hydra.sweeper.n_trials == 5
    assert hydra.sweeper.sampler.seed == 0
    assert "+hydra.job.env_set.SVC_SEARCH_FIRST_TRIAL='0'" in hydra.overrides.hydra
    assert study().trials == []


def test_a_search_goes_on_with_the_trials_that_are_missing(
    composed: Composed, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(composed())
    known = study()
    known.tell(known.ask(), 3.0)
    known.tell(known.ask(), state=optuna.trial.TrialState.FAIL)
    known.ask()  # and is killed
    killed()
    hydra = begin(composed("hydra.sweeper.n_trials=5"))
    assert hydra.sweeper.n_trials == 4
    assert hydra.sweeper.sampler.seed == 3  # not the same trials once more
    assert "+hydra.job.env_set.SVC_SEARCH_FIRST_TRIAL='3'" in hydra.overrides.hydra
    assert [trial.state.name for trial in study().trials] == ["COMPLETE", "FAIL", "FAIL"]
    assert "the search find goes on; 1 of 5 trials are done" in capsys.readouterr().err


def test_other_settings_are_another_search(
    composed: Composed, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(composed("seed=1"))
    killed()
    with pytest.raises(SystemExit) as refused:
        begin(composed("seed=2", "hydra.sweeper.params={optim.lr:'choice(1,2)'}"))
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert "run_name=find: this search was begun with other settings" in said
    assert "it was begun with seed=1" in said
    assert "it was begun without seed=2" in said
    assert "it was begun without optim.lr=choice(1,2)" in said
    assert "it was begun with optim.lr=tag(log, interval(2.0e-5, 2.0e-3))" in said


def test_a_search_that_is_running_is_left_alone(
    composed: Composed, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(composed())
    study().ask()
    with pytest.raises(SystemExit):
        begin(composed())
    assert "this search is running already" in capsys.readouterr().err
    assert [trial.state.name for trial in study().trials] == ["RUNNING"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("hydra.sweeper.direction=maximize", "direction=maximize: a search judges by the"),
        ("hydra.sweeper.storage=nodialect://x", "cannot be kept there (Can't load plugin"),
        ("run_name='why?'", "Give a run_name and a paths.output_dir without one"),
    ],
)
def test_a_search_that_cannot_be_kept_or_judged_is_refused(
    typed: str, expected: str, composed: Composed, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        begin(composed(typed))
    assert refused.value.code == 2
    assert expected in capsys.readouterr().err


def test_a_damaged_study_is_told_of(composed: Composed, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("outputs/multirun/find/search.db")
    file.parent.mkdir(parents=True)
    file.write_text("no database, but a text that is as long as one wants it to be")
    with pytest.raises(SystemExit):
        begin(composed())
    assert "search.db: this search cannot be kept there" in capsys.readouterr().err
    assert file.read_text().startswith("no database")


SEARCH = (
    *(typed for typed in TINY if not typed.startswith(("trainer.devices", "hydra.run.dir"))),
    "dataset.minutes_per_singer=0.4",
    "~callbacks.samples",
    "hparams_search=optuna",
    "run_name=find",
    "hydra.sweeper.n_trials=4",
    "trainer.max_steps=6",
    "callbacks.pruning.pruner.n_startup_trials=1",
)


def states() -> list[str]:
    """Of all trials so far, without Optuna, which would write."""
    file = Path("outputs/multirun/find/search.db")
    if not file.is_file():
        return []
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)
    try:
        return [row[0] for row in database.execute("SELECT state FROM trials ORDER BY number")]
    except sqlite3.OperationalError:  # there are no tables yet
        return []
    finally:
        database.close()


@pytest.mark.slow
def test_a_search_is_killed_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "svc.cli.train", *SEARCH]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 240
    folder = Path("outputs/multirun/find")
    while not list(folder.glob("*_1/job.json")) and time.monotonic() < give_up:
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = states()
    assert before.count("RUNNING") == 1
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{before.count('COMPLETE')} of 4 trials are done" in done.stderr
    assert sorted(states()) == ["COMPLETE"] * 4 + ["FAIL"]
    assert states()[before.index("RUNNING")] == "FAIL"
    trials = study().trials
    assert len({trial.params["optim.lr"] for trial in trials}) == 5
    reported = [trial.intermediate_values for trial in trials if trial.state.name == "COMPLETE"]
    assert all(list(values) in ([2], [2, 4], [2, 4, 6]) for values in reported)
    with Path("outputs/multirun/find/leaderboard.csv").open(encoding="utf-8") as file:
        board = list(csv.DictReader(file))
    losses = {row["optim.lr"]: float(row["valid_loss"]) for row in board if row["valid_loss"]}
    assert losses == {
        str(trial.params["optim.lr"]): trial.value for trial in trials if trial.value is not None
    }
    assert board[-1]["state"] == "killed"
