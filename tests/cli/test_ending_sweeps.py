"""Jobs in joblib's processes end with the command that launched them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.test_processes import TINY
from svc.cli.ending_sweeps import ENDING_FILE, end_jobs_first
from svc.errors import EndedOnRequest


@pytest.fixture(autouse=True)
def _same_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGTERM, EndedOnRequest), (signal.SIGINT, KeyboardInterrupt)],
)
def test_a_signal_is_passed_on_and_the_jobs_are_waited_for(
    number: signal.Signals,
    expected: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = [True, True, False]
    slept: list[float] = []
    monkeypatch.setattr("svc.cli.ending_sweeps.time.sleep", slept.append)
    (tmp_path / ENDING_FILE).touch()  # of an earlier sweep
    handler = signal.getsignal(number)
    end_jobs_first(tmp_path, lambda: looks.pop(0))
    assert not (tmp_path / ENDING_FILE).exists()
    with pytest.raises(expected):
        os.kill(os.getpid(), number)
    assert (tmp_path / ENDING_FILE).exists()
    assert looks == []
    assert len(slept) == 2
    assert signal.getsignal(number) is handler  # a second one does not wait


JOBS = (
    *(typed for typed in TINY if not typed.startswith(("trainer.devices", "hydra.run.dir"))),
    *("dataset.minutes_per_singer=0.4", "~callbacks.samples", "trainer.max_steps=100000"),
    *("trainer.validate_every_steps=100000", "hydra.sweep.dir=sweep", "seed=1,2,3"),
    *("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
)


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    give_up = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_jobs_of_joblib_save_and_end_with_their_command(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = tmp_path / "sweep"
    command = subprocess.Popen(
        [sys.executable, "-m", "svc.cli.train", "-m", *JOBS],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: all(any((sweep / job).rglob("metrics.csv")) for job in "01"))
    finally:
        command.send_signal(number)
    assert command.wait(60) == code

    def states() -> list[str]:
        return [json.loads(file.read_text())["state"] for file in sweep.glob("*/job.json")]

    wait_for(lambda: states() == ["failed"] * 2, 60)
    for job in "01":
        assert "all of them are saved" in (sweep / job / "job.json").read_text()
        assert (sweep / job / "checkpoints" / "last.ckpt").is_file()
    assert not (sweep / "2" / "job.json").exists()
    wait_for(lambda: (sweep / "leaderboard.csv").read_text().count("failed") == 2)
