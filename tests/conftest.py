"""Fixtures that every test may use."""

from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real voices, weights and golden data beside the checkout, or a skip."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the folder of golden data and real voices is not beside this checkout")
    return folder


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Two threads at the most, so that parallel test processes do not fight for the cores."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
