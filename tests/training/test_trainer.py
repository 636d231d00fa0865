"""The Trainer that configurations ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from svc.training.trainer import build_trainer


@pytest.fixture
def torch_as_it_was() -> Iterator[None]:
    """Settings of the whole process are put back."""
    tf32 = torch.backends.cudnn.allow_tf32
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = tf32


@pytest.mark.usefixtures("torch_as_it_was")
@pytest.mark.parametrize(
    ("wanted", "refuses", "warns"),
    [(False, False, False), (True, True, False), ("warn", True, True)],
)
def test_deterministic(tmp_path: Path, wanted: bool | str, refuses: bool, warns: bool) -> None:
    build_trainer(run_dir=tmp_path, accelerator="cpu", deterministic=wanted)  # type: ignore[arg-type]
    assert torch.are_deterministic_algorithms_enabled() == refuses
    assert torch.is_deterministic_algorithms_warn_only_enabled() == warns


@pytest.mark.usefixtures("torch_as_it_was")
@pytest.mark.parametrize("allowed", [True, False])
def test_tf32(tmp_path: Path, allowed: bool) -> None:
    build_trainer(run_dir=tmp_path, accelerator="cpu", tf32=allowed)
    assert torch.backends.cudnn.allow_tf32 == allowed
    assert not torch.backends.cuda.matmul.allow_tf32  # those of spectral losses
