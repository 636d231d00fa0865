"""Work in processes: as many as there are cores, one core each, and none that is left behind."""

import logging
import os

import pytest
import torch

from svc.data import process_pool
from svc.data.process_pool import count_workers, run_in_processes
from svc.errors import UserError

_added = 0


def _set_added(number: int) -> None:
    global _added
    _added = number


def _place(task: int) -> tuple[int, int, int, int]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return task + _added, os.getpid(), cores, torch.get_num_threads()


def _die(task: int) -> int:
    os._exit(task)


class TestCount:
    @pytest.fixture(autouse=True)
    def _four_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process_pool, "available_cores", lambda: 4)

    @pytest.mark.parametrize(
        ("wanted", "tasks", "audio_s", "count"),
        [
            (None, 10, 3600.0, 4),
            (None, 3, 3600.0, 3),
            (None, 10, 60.0, 1),
            (2, 10, 60.0, 2),
            (4, 1, 60.0, 1),
            (3, 0, 0.0, 1),
        ],
    )
    def test_as_many_as_cores_and_work(
        self, wanted: int | None, tasks: int, audio_s: float, count: int
    ) -> None:
        assert count_workers(wanted, "x.workers", tasks, audio_s) == count

    def test_more_than_the_cores_are_reduced_and_said(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            assert count_workers(64, "x.workers", 100, 0.0) == 4
        assert "x.workers=64 is more than the 4 core(s)" in caplog.text


def test_every_task_is_done_by_prepared_workers_of_one_core_and_thread() -> None:
    results = list(run_in_processes(_place, list(range(6)), 2, "workers", _set_added, (100,)))
    assert sorted(result[0] for result in results) == list(range(100, 106))
    assert os.getpid() not in {result[1] for result in results}
    assert {result[2:] for result in results} == {(1, 1)}


def test_a_dead_worker_is_told_of_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"x\.workers=1\)"):
        list(run_in_processes(_die, [9, 9], 2, "x.workers"))
