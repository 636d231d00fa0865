"""Bounds of mels: exact, carried by checkpoints, and refused where they make no sense."""

import math

import pytest
import torch

from svc.models.mel_scaling import MelScaling, dataset_scaling


def test_bounds_become_one_and_minus_one_and_the_way_back_is_exact() -> None:
    scaling = MelScaling([-10.0, -8.0], [0.0, 2.0])
    mel = torch.tensor([[[-10.0, 0.0, -5.0], [-8.0, 2.0, 7.0]]])
    expected = torch.tensor([[[-1.0, 1.0, 0.0], [-1.0, 1.0, 2.0]]])
    assert torch.equal(scaling.normalise(mel), expected)
    torch.testing.assert_close(scaling.denormalise(expected), mel)


def test_one_pair_of_bounds_serves_all_bins_in_float32() -> None:
    scaling = MelScaling(-5, 0)
    mel = torch.full((2, 7, 3), -2.5, dtype=torch.float16)
    assert torch.equal(scaling.normalise(mel), torch.zeros(2, 7, 3))
    assert not scaling.normalise(mel[..., :0]).numel()


def test_statistics_of_a_bin_that_never_changes_span_something() -> None:
    scaling = dataset_scaling([-11.5, -9.0], [-11.5, 1.0], smallest_span=0.5)
    torch.testing.assert_close(scaling.minimum, torch.tensor([-11.75, -9.0]))
    torch.testing.assert_close(scaling.maximum, torch.tensor([-11.25, 1.0]))
    with pytest.raises(ValueError, match="one minimum and one maximum per bin, in order"):
        dataset_scaling([-1.0, 0.0], [-2.0, 1.0])


def test_a_checkpoint_brings_its_bounds() -> None:
    saved = MelScaling([-10.0, -8.0], [0.0, 2.0])
    loaded = torch.nn.ModuleDict({"scaling": MelScaling()})
    loaded.load_state_dict({f"scaling.{name}": v for name, v in saved.state_dict().items()})
    mel = torch.randn(1, 2, 5)
    assert torch.equal(loaded["scaling"].normalise(mel), saved.normalise(mel))


def test_refuses_bounds_and_mels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"minimum=\[0.0\] must be finite and below"):
        MelScaling(0.0, 0.0)
    with pytest.raises(ValueError, match="must be finite"):
        MelScaling([-1.0, math.nan], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"minimum \(2 values\) and maximum \(1 values\)"):
        MelScaling([-1.0, -1.0], 1.0)
    with pytest.raises(ValueError, match=r"\[1, 3, 4\] must be \[B, M, N\] with M = 2"):
        MelScaling([-1.0, -1.0], [1.0, 1.0]).normalise(torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match=r"\[3, 4\] must be \[B, M, N\]"):
        MelScaling().denormalise(torch.zeros(3, 4))
