"""Runs of a search that do worse than others end early."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from svc.training.callbacks.pruning import SearchPruning
from svc.training.run_summary import summarise
from training.tiny_training import TinyData, tiny_module, tiny_trainer

optuna = pytest.importorskip("optuna")

NAME = "search"
Study = Callable[[Sequence[float]], Any]


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'search (one).db'}"


@pytest.fixture
def study(storage: str) -> Study:
    """Makes a study in which a trial has ended for each loss at step 3, and one is running."""

    def make(losses: Sequence[float]) -> Any:
        made = optuna.create_study(study_name=NAME, storage=storage)
        for loss in losses:
            trial = made.ask()
            trial.report(loss, 3)
            made.tell(trial, loss)
        made.ask()
        return made

    return make


def callback(storage: str, trial: int | None, startup: int = 2) -> SearchPruning:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=startup)
    return SearchPruning(study=NAME, storage=storage, trial=trial, pruner=pruner)


def steps_of(folder: Path, pruning: SearchPruning) -> int:
    trainer = tiny_trainer(folder, 9, [pruning], validate_every_steps=3)
    trainer.fit(tiny_module(), datamodule=TinyData())
    summary = summarise(trainer, 1.0)
    assert summary.pruned == pruning.pruned
    return summary.steps


@pytest.mark.parametrize(
    ("losses", "steps"),
    [
        ([0.0, 0.0, 1e9], 3),  # most did better
        ([0.0, 1e9, 1e9], 9),
        ([0.0], 9),  # too few to compare with
    ],
)
def test_a_run_ends_where_most_did_better(
    losses: list[float], steps: int, study: Study, storage: str, tmp_path: Path
) -> None:
    study(losses)
    assert steps_of(tmp_path / "run", callback(storage, len(losses))) == steps
    known = optuna.load_study(study_name=NAME, storage=storage)
    reported = known.trials[len(losses)].intermediate_values
    assert list(reported) == [step for step in (3, 6, 9) if step <= steps]
    assert known.trials[0].intermediate_values == {3: losses[0]}


def test_outside_a_search_nothing_happens(tmp_path: Path, storage: str) -> None:
    assert steps_of(tmp_path / "run", callback(storage, None)) == 9
    assert not list(tmp_path.glob("*.db"))


def test_a_search_that_cannot_be_reached_ends_no_run(
    tmp_path: Path, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        missing = callback(storage.replace(str(tmp_path), str(tmp_path / "nowhere")), 0)
        assert not missing._is_worse(3, 1.0)
    assert "Step 3: the search cannot be told" in caplog.text
    assert missing._is_worse(3, float("nan"))  # there is no need to ask
