"""Jobs of a multirun: what is recorded of them, and how the command ends."""

import csv
import gc
import os
import re
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from command_line import Terminal
from svc.cli import sweep
from svc.cli.app import run_command
from svc.config.checks import DeviceUnavailable
from svc.errors import EndedOnRequest, UserError
from svc.sweeps.job_record import JobRecord, read_job, write_job
from svc.training.run_summary import RunSummary, write_summary

Multirun = Callable[..., tuple[int, str]]


def task(config: Any) -> float | None:
    """Does what the seed says."""
    from hydra.core.hydra_config import HydraConfig

    if config.seed == 3:
        raise DeviceUnavailable("The configuration cannot be used:", ["no device for this"])
    if config.seed == 4:
        raise UserError("seed=4: give another one")
    if config.seed == 7:
        raise EndedOnRequest("asked to end (SIGTERM) after 3 steps")
    if config.seed == 6:
        return None
    if config.seed == 5:
        raise RuntimeError("out of luck")
    loss = 10.0 - config.seed
    folder = Path(HydraConfig.get().runtime.output_dir)
    write_summary(folder, RunSummary({"valid_loss": loss}, 7, 2.0, 1.5, 60.0))
    return loss


@pytest.fixture
def multirun(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Multirun:
    """Runs `task` as svc-train would; gives the exit code and what was said."""

    def run(*overrides: str) -> tuple[int, str]:
        arguments = [*overrides, "dataset=demo", "hydra.sweep.dir=sweep"]
        monkeypatch.setattr(sys, "argv", ["svc-train", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_command("svc-train", "train", sweep.job_of_sweep(task))
        return sweep.summed_up(int(ended.value.code or 0)), capsys.readouterr().err

    return run


def table() -> list[dict[str, str]]:
    with Path("sweep/leaderboard.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_cannot_run_here_is_skipped_and_the_rest_goes_on(multirun: Multirun) -> None:
    code, said = multirun("-m", "seed=3,0,1")
    assert code == 0, said
    assert "3 jobs: 2 done, 1 skipped. Leaderboard: sweep/leaderboard.html" in said
    assert "  0 skipped seed=3: no device for this" in said
    assert "svc-train: " not in said  # not a fault
    rows = table()
    assert [(row["job"], row["seed"], row["state"]) for row in rows] == [
        ("2", "1", "done"),  # the smaller loss
        ("1", "0", "done"),
        ("0", "3", "skipped"),
    ]
    assert [row["valid_loss"] for row in rows] == ["9.0", "10.0", ""]
    assert rows[2]["reason"] == "no device for this"


def test_where_everything_is_skipped_another_trainer_must_be_chosen(multirun: Multirun) -> None:
    code, said = multirun("-m", "seed=3", "run_name=a,b")
    assert code == 2
    assert "2 jobs: 2 skipped" in said


@pytest.mark.parametrize(("seeds", "expected"), [("0,4,3,5", 2), ("5,4", 1), ("0,5", 1)])
def test_failures_are_counted_and_give_the_exit_code(
    multirun: Multirun, seeds: str, expected: int
) -> None:
    code, said = multirun("-m", f"seed={seeds}")
    assert code == expected
    failed = [row for row in table() if row["state"] == "failed"]
    reasons = {"4": "seed=4: give another one", "5": "RuntimeError: out of luck"}
    assert {row["seed"]: row["reason"] for row in failed} == {
        seed: reason for seed, reason in reasons.items() if seed in seeds
    }
    for row in failed:
        assert f"  {row['job']} failed seed={row['seed']}: {row['reason']}" in said


def test_a_job_that_failed_leaves_no_networks_behind(
    multirun: Multirun, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[weakref.ref[Any]] = []

    def failing(config: Any) -> float | None:
        gc.collect()  # as svc-train does before it begins
        assert [network() for network in known] == [None] * len(known)
        network = torch.nn.Linear(1, 1)
        known.append(weakref.ref(network))
        raise RuntimeError("out of memory")

    monkeypatch.setitem(globals(), "task", failing)
    assert multirun("-m", "seed=1,2,3")[0] == 1
    assert {row["reason"] for row in table()} == {"RuntimeError: out of memory"}
    assert len(known) == 3


def test_sigterm_ends_the_sweep_and_not_just_the_job(multirun: Multirun) -> None:
    code, said = multirun("-m", "seed=0,7,1")
    assert code == 143
    assert "svc-train: asked to end (SIGTERM) after 3 steps" in said
    assert "2 jobs: 1 done, 1 failed" in said
    assert not Path("sweep/2").exists()


def test_a_single_run_leaves_no_record(multirun: Multirun) -> None:
    code, said = multirun("hydra.run.dir=run")
    assert code == 0
    assert "Leaderboard" not in said
    assert read_job(Path("run")) is None
    assert not Path("sweep").exists()


def test_a_trial_without_a_score_has_failed(
    multirun: Multirun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert multirun("-m", "seed=6,0")[0] == 0
    monkeypatch.setenv(sweep.FIRST_TRIAL, "7")
    code, said = multirun("-m", "seed=6,0")
    assert code == 2
    assert "  0 failed seed=6: This run has no finite validation loss" in said
    assert sweep.TRIAL not in os.environ


def test_jobs_of_earlier_commands_are_shown_but_not_told_of(multirun: Multirun) -> None:
    write_job(Path("sweep/before"), JobRecord(0, ["seed=5", "dataset=demo"], "running"))
    code, said = multirun("-m", "seed=0,1")
    assert code == 0  # what was killed then is no failure now
    assert "2 jobs: 2 done" in said
    assert [row["state"] for row in table()] == ["done", "done", "killed"]


def test_a_second_command_leaves_the_jobs_of_the_first_alone(multirun: Multirun) -> None:
    multirun("-m", "seed=0,1")
    code, said = multirun("-m", "seed=2,5,1")
    assert code == 1
    assert "3 jobs: 2 done, 1 failed" in said
    rows = table()
    assert [(row["seed"], row["state"]) for row in rows] == [
        *(("2", "done"), ("1", "done"), ("1", "done"), ("0", "done"), ("5", "failed")),
    ]
    assert len({row["run"] for row in rows}) == 5
    assert {"0", "1"} < {row["run"] for row in rows}


def test_the_leaderboard_is_there_while_jobs_are_running(
    multirun: Multirun, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[tuple[str, str]]] = []

    def looking(config: Any) -> float | None:
        seen.append([(row["seed"], row["state"]) for row in table() if "seed" in row])
        return plain(config)

    plain = task
    monkeypatch.setitem(globals(), "task", looking)
    multirun("-m", "seed=0,5,1")
    assert seen[1] == [("0", "done"), ("5", "running")]
    assert seen[2] == [("0", "done"), ("1", "running"), ("5", "failed")]


@pytest.mark.slow
def test_swept_settings_of_features_have_prepared_datasets_of_their_own(
    multirun: Multirun, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []

    def looking(config: Any) -> float | None:
        used.append(Path(config.paths.store_dir).name.removeprefix("demo-"))
        return 1.0

    monkeypatch.setitem(globals(), "task", looking)
    multirun("-m", "content=mfcc", "pitch.f0_max_hz=900,1000", "pitch.f0_min_hz=50")
    assert [name.split("-", 1)[1] for name in used] == [
        "mfcc-parselmouth-f0_max_hz=900",
        "mfcc-parselmouth-f0_max_hz=1000",
    ]
    used.clear()
    multirun("-m", "preparation.slicing={min_s: 2.0},{}", "hydra.sweep.dir=other")
    assert len(set(used)) == 2
    assert all(re.fullmatch(r"[\w.=-]+", name) for name in used)
    used.clear()
    multirun("-m", "content=mfcc", "pitch.f0_max_hz=900", "optim.lr=1,2", "preparation.workers=1,2")
    assert {name.split("-", 1)[1] for name in used} == {"mfcc-parselmouth"}


def test_a_long_reason_is_told_once(multirun: Multirun) -> None:
    long = "x" * 50

    def failing(config: Any) -> float | None:
        raise UserError(long if config.seed < 3 else "short")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "task", failing)
        _, said = multirun("-m", "seed=1,2,3,4")
    assert f"  0 failed seed=1: {long}\n  1 failed seed=2: as job 0\n" in said
    assert "  2 failed seed=3: short\n  3 failed seed=4: short\n" in said


def test_a_job_that_was_killed_is_a_failure() -> None:
    jobs = [JobRecord(0, [], "done"), JobRecord(1, [], "running")]
    assert sweep._exit_code(0, jobs) == 1
    assert sweep._exit_code(130, jobs) == 130


def test_a_search_says_which_extra_it_needs(terminal: Terminal) -> None:
    message = terminal.refused("svc-train", "-m", "dataset=demo", "hydra/sweeper=optuna_cma")
    assert "pip install 'svc[sweep]'" in message


def test_a_launcher_says_what_it_misses(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("PATH", "/nowhere")
    message = terminal.refused(
        "svc-train", "-m", "dataset=demo", "hydra/launcher=submitit_slurm", "seed=1,2"
    )
    assert 'Could not detect "srun"' in message
    assert "hydra/launcher=joblib runs jobs on this machine" in message


def test_an_unknown_option_in_a_sweep_is_told_of_as_such(terminal: Terminal) -> None:
    message = terminal.refused("svc-train", "-m", "dataset=demo", "arch=diffsvc,nonsense")
    assert "Could not find 'arch/nonsense'" in message
    assert "hifisinger_tiny" in message
    assert "paths.output_dir" not in message


def test_only_a_missing_device_makes_a_skip(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ended = terminal.run(
        "svc-train", "-m", "experiment=demo", "trainer=t4_fp16", "audio.hop_samples=256,128"
    )
    assert ended.code == 2
    assert "2 jobs: 2 failed" in ended.err
    assert "trainer=t4_fp16 cannot run here" in ended.err  # beside the other fault
    ended = terminal.run("svc-train", "-m", "experiment=demo", "trainer=t4_fp16", "seed=1,2")
    assert ended.code == 2
    assert ended.err.count("skipped seed=") == 2
    assert "this machine has no CUDA device" in ended.err
