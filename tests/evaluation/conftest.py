"""Settings for tests of measurements."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(_few_threads: None) -> None:
    """Signals of a second or two: a second thread mostly waits for the first."""
    torch.set_num_threads(1)
