"""A run on two CPU processes, as one command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from svc.cli.processes import _give_gpus_back, processes_to_start
from svc.errors import UserError
from svc.training.devices import devices_here

TESTS = Path(__file__).parents[1]
TINY = (
    "experiment=demo",
    "debug=fast",
    "dataset.minutes_per_singer=0.1",
    "dataset.singers=2",
    "arch.generator.conditioner.channels=8",
    "arch.generator.backbone.channels=8",
    "arch.generator.backbone.layers=2",
    "arch.generator.backbone.out_channels=8",
    "vocoder.initial_channels=32",
    "arch.discriminator.periods.channels=[2,2]",
    "~arch.discriminator.scales",
    "arch.adversarial.start_step=0",
    "trainer.devices=2",
    "hydra.run.dir='a run (two)'",
)
RUN = "a run (two)"


def command(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "svc.cli.train", *TINY, *overrides],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A run that has begun to learn, and its two processes."""
    running = command(tmp_path, "trainer.max_steps=1000000", "callbacks.checkpoints.every_steps=1")
    checkpoint = tmp_path / RUN / "checkpoints" / "last.ckpt"
    give_up = time.monotonic() + 240
    while not checkpoint.is_file() and running.poll() is None and time.monotonic() < give_up:
        time.sleep(0.1)
    children = psutil.Process(running.pid).children() if running.poll() is None else []
    trainers = [c for c in children if "svc.cli.train" in " ".join(c.cmdline())]
    yield running, trainers
    running.kill()
    for process in trainers:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.slow
def test_runs_and_continues(tmp_path: Path) -> None:
    for steps, resume in (("2", "null"), ("4", RUN)):
        done = command(tmp_path, f"trainer.max_steps={steps}", f"resume={resume}")
        said, _ = done.communicate(timeout=300)
        assert done.returncode == 0, said
        assert f"Done after {steps} steps" in said
        assert said.count("Done after") == 1
    assert (tmp_path / RUN / "run.yaml").is_file()
    assert not list((tmp_path / RUN / "metrics").glob("*1*/*1*/*"))


@pytest.mark.slow
def test_where_one_process_is_killed_the_run_ends_and_says_so(
    endless: tuple[subprocess.Popen[str], list[psutil.Process]],
) -> None:
    running, trainers = endless
    assert len(trainers) == 2
    trainers[1].kill()
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 1, said
    assert "of the run was killed (SIGKILL)" in said
    assert psutil.wait_procs(trainers, timeout=10)[1] == []


@pytest.mark.slow
def test_where_the_command_is_killed_its_processes_end(
    endless: tuple[subprocess.Popen[str], list[psutil.Process]],
) -> None:
    running, trainers = endless
    assert len(trainers) == 2
    running.send_signal(signal.SIGKILL)
    assert psutil.wait_procs(trainers, timeout=60)[1] == []


def test_one_device_needs_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = {"accelerator": "cpu", "devices": 1, "num_nodes": 1}
    assert processes_to_start(trainer) == 1
    assert processes_to_start({**trainer, "devices": 3}) == 3
    assert processes_to_start({**trainer, "devices": -1}) == 1
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert devices_here("gpu", -1) == devices_here("gpu", "auto") == 4
    assert devices_here("gpu", 2) == 2


def test_processes_that_torchrun_or_slurm_started_start_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = {"accelerator": "cpu", "devices": 2, "num_nodes": 2}
    with pytest.raises(UserError, match=r"trainer\.num_nodes=2: .*torchrun.*srun"):
        processes_to_start(trainer)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert processes_to_start(trainer) == 1
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    for key, value in (("NTASKS", "4"), ("NTASKS_PER_NODE", "2"), ("NNODES", "2")):
        monkeypatch.setenv(f"SLURM_{key}", value)
    assert processes_to_start(trainer) == 1
    for other in ({"devices": 4}, {"num_nodes": 1}):
        with pytest.raises(UserError, match="has --nodes=2 --ntasks-per-node=2"):
            processes_to_start({**trainer, **other})
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")  # a job with --ntasks alone
    with pytest.raises(UserError, match=r"wants .* --ntasks-per-node=2; .*\(not set\)"):
        processes_to_start(trainer)


def test_a_slurm_job_of_one_task_is_like_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    trainer = {"accelerator": "cpu", "devices": 2, "num_nodes": 1}
    assert processes_to_start(trainer) == 2
    assert processes_to_start({**trainer, "devices": 1}) == 1


def test_what_preparing_took_of_a_gpu_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    _give_gpus_back()
    assert not emptied  # nothing was taken, and no GPU is started up for it
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    _give_gpus_back()
    assert emptied
