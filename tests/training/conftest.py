import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(_few_threads: None) -> None:
    """Tensors this small only wait for more threads."""
    torch.set_num_threads(1)
