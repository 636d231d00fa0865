"""Jobs of a multirun share a machine's cores."""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import open_dict

from svc.cli.multirun import JobFailed, jobs_at_once, share_of_cores
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


@pytest.mark.usefixtures("cores")
def test_a_running_cluster_of_ray_is_asked_for_nothing_that_it_refuses(job_of: As) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    job_of("hydra/launcher=ray_cluster")
    init = HydraConfig.get().launcher.ray.init
    # The plug-in sets what is not there.
    assert dict(init) == {"address": "auto", "object_store_memory": None}
    assert jobs_at_once() == 8
