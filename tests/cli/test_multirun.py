"""Jobs of a multirun share a machine's cores."""

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import open_dict

from svc.cli import multirun
from svc.cli.multirun import JobFailed, jobs_at_once, share_of_cores, take_gpus
from svc.config.paths import conf_dir
from svc.config.resolvers import register_resolvers
from svc.config.schema import register_schemas

As = Callable[..., None]


@pytest.fixture
def job_of(tmp_path: Path) -> Iterator[As]:
    """Makes this process look like a job of a multirun with these overrides."""
    register_schemas()
    register_resolvers()
    before = HydraConfig.instance().cfg
    GlobalHydra.instance().clear()

    def become(*overrides: str) -> None:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("preprocess", [*overrides], return_hydra_config=True)
        with open_dict(config):
            config.hydra.mode = RunMode.MULTIRUN
            config.hydra.sweep.dir = str(tmp_path)
            config.hydra.runtime.cwd = str(tmp_path)
        HydraConfig.instance().set_config(config)

    yield become
    HydraConfig.instance().cfg = before
    GlobalHydra.instance().clear()


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> dict[int, set[int]]:
    """Eight cores; under 0, those that the process may use."""
    may_use = {0: set(range(8))}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: may_use[0], raising=False)
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda _, mine: may_use.update({0: set(mine)}), raising=False
    )
    return may_use


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize(
    ("overrides", "most", "expected"),
    [
        ([], 4, 1),
        (["hydra/launcher=joblib"], None, 8),
        (["hydra/launcher=joblib"], 4, 4),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"], 4, 3),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=-2"], None, 7),
        (["hydra/launcher=ray"], 20, 8),
        (["hydra/launcher=ray", "+hydra.launcher.ray.remote.num_cpus=4"], 20, 2),
        (["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"], 20, 2),
    ],
)
def test_jobs_at_once(overrides: list[str], most: int | None, expected: int, job_of: As) -> None:
    if overrides:
        launcher = overrides[0].partition("=")[2]
        pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher")
    job_of(*overrides)
    assert jobs_at_once(most) == expected


def test_jobs_at_a_time_get_cores_of_their_own(job_of: As, cores: dict[int, set[int]]) -> None:
    job_of()
    with share_of_cores(4):
        assert cores[0] == {0, 1}
        first, cores[0] = cores[0], set(range(8))  # another process
        with share_of_cores(4):
            assert cores[0] == {2, 3}
        cores[0] = first
    assert cores[0] == set(range(8))
    with share_of_cores(4):  # the place is free again
        assert cores[0] == {0, 1}


def test_more_jobs_than_cores_get_one_core_at_least(job_of: As, cores: dict[int, set[int]]) -> None:
    job_of()
    cores[0] = {5}
    with share_of_cores(3) as processes:
        assert cores[0] == {5}
        assert processes is None


def test_where_processes_cannot_be_bound_their_number_is_told(
    job_of: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_of()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    with share_of_cores(4) as processes:
        assert processes == 2
    with share_of_cores(1) as processes:
        assert processes is None


def test_a_failure_travels_between_processes() -> None:
    failure = pickle.loads(pickle.dumps(JobFailed(2, "give another path")))
    assert (failure.code, failure.message) == (2, "give another path")
    assert str(failure) == "give another path"
    assert str(JobFailed(2, "")) == "exit code 2"  # in what Optuna's sweeper says of a trial


@pytest.mark.usefixtures("cores")
def test_a_running_cluster_of_ray_is_asked_for_nothing_that_it_refuses(job_of: As) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    job_of("hydra/launcher=ray_cluster")
    init = HydraConfig.get().launcher.ray.init
    # The plug-in sets what is not there.
    assert dict(init) == {"address": "auto", "object_store_memory": None}
    assert jobs_at_once() == 8


class Gpus:
    """Processes on a machine with so many GPUs."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._processes: list[ExitStack | None] = []
        monkeypatch.setattr("torch.cuda.device_count", lambda: count)
        monkeypatch.setattr("svc.data.process_pool.available_cores", lambda: 8)

    def of_new_process(self, visible: str | None = None) -> str | None:
        """Those that a process takes, which goes on living."""
        self._monkeypatch.setattr(multirun, "_gpus_taken", None)
        self._monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            self._monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        take_gpus()
        self._processes.append(multirun._gpus_taken)
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    def end_of_process(self, number: int) -> None:
        taken = self._processes[number]
        assert taken is not None
        taken.close()


@pytest.mark.parametrize(
    ("count", "jobs", "expected"),
    [
        (4, 4, ["0", "1", "2", "3"]),
        (4, 2, ["0,1", "2,3"]),
        (5, 2, ["0,1", "2,3"]),
        (2, 3, ["0", "1", "0"]),
        (1, 2, [None, None]),
        (0, 2, [None, None]),
        (4, 1, [None]),
    ],
)
def test_processes_of_joblib_share_the_gpus(
    count: int, jobs: int, expected: list[str | None], job_of: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    job_of("hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}")
    gpus = Gpus(count, monkeypatch)
    assert [gpus.of_new_process() for _ in range(jobs)] == expected


def test_a_process_keeps_its_gpu_and_gives_it_back_at_its_end(
    job_of: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    job_of("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    gpus = Gpus(9, monkeypatch)
    assert gpus.of_new_process("5,7") == "5"  # of those that the command was given
    assert gpus.of_new_process("5,7") == "7"
    take_gpus()  # for its next job
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    gpus.end_of_process(0)
    assert gpus.of_new_process("5,7") == "5"


def test_other_launchers_see_to_gpus_themselves(
    job_of: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = Gpus(4, monkeypatch)
    job_of()
    assert gpus.of_new_process() is None
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    job_of("hydra/launcher=ray_gpus")
    assert HydraConfig.get().launcher.ray.remote.num_gpus == 1
    assert gpus.of_new_process() is None


def test_there_is_a_job_for_each_gpu_and_at_least_one(
    job_of: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    for count, jobs in ((3, 3), (0, 1)):
        monkeypatch.setattr("torch.cuda.device_count", lambda count=count: count)
        job_of("hydra/launcher=joblib_gpus")
        assert HydraConfig.get().launcher.n_jobs == jobs
        assert jobs_at_once() == jobs


def test_slurm_is_asked_for_a_gpu(job_of: As) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    job_of("hydra/launcher=slurm_gpu")
    launcher = HydraConfig.get().launcher
    assert (launcher.gpus_per_node, launcher.tasks_per_node) == (1, 1)
    assert str(launcher._target_).endswith(".SlurmLauncher")
    assert jobs_at_once() == 1
