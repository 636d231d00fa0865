"""Fixtures that every test may use."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before numpy and torch: also for the workers of xdist, and for the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """Spare the collector of garbage, which took a quarter of the time of the commands' tests, what
    is here to stay: libraries, and all tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real voices, weights and golden data beside the checkout, or a skip."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the folder of golden data and real voices is not beside this checkout")
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """One thread per test process: the suite runs as many processes as there are cores, and
    threads that fight for a core make it ten times slower."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _wandb_ends_with_its_test() -> Iterator[None]:
    """The process that wandb starts works in the folder of that test, and later ones would join
    it: its address is in the environment."""
    yield
    if "wandb" in sys.modules and "WANDB_SERVICE" in os.environ:
        sys.modules["wandb"].teardown()
