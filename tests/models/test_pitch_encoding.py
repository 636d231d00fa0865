"""The published encodings of F0, against their originals and on values of their definition."""

from pathlib import Path

import pytest
import torch

from svc.models.pitch_encoding import coarse_pitch, log_pitch, scaled_pitch

PUBLISHED_BOUNDS_HZ = (50.0, 1100.0)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict:
    return torch.load(shared / "golden" / "features_small.pt", weights_only=True)


def test_encodings_are_as_published(golden: dict) -> None:
    f0_hz = golden["f0"].view(1, -1)
    scaled = scaled_pitch(f0_hz, *PUBLISHED_BOUNDS_HZ)
    torch.testing.assert_close(scaled[:, 0], golden["pitch_to_scale"][..., 0], atol=1e-6, rtol=0)
    logarithm = log_pitch(f0_hz)
    torch.testing.assert_close(logarithm[:, 0], golden["pitch_to_log"][..., 0], atol=1e-5, rtol=0)
    assert torch.equal(coarse_pitch(f0_hz, *PUBLISHED_BOUNDS_HZ), golden["pitch_to_coarse"])


def test_scaled_pitch_runs_from_0_to_1_between_its_bounds() -> None:
    f0_hz = torch.tensor([[0.0, 100.0, 250.0, 400.0, 900.0]])
    assert scaled_pitch(f0_hz, 100.0, 400.0).tolist() == [[[0.0, 0.0, 0.5, 1.0, 1.0]]]


def test_log_pitch_counts_octaves_and_knows_silence() -> None:
    assert log_pitch(torch.tensor([[0.0, 1.0, 64.0, 128.0]])).tolist() == [[[0.0, 0.0, 6.0, 7.0]]]


def test_coarse_pitch_never_leaves_its_table_and_never_falls() -> None:
    f0_hz = torch.linspace(0, 20_000, 4001)[None]
    steps = coarse_pitch(f0_hz, 40.0, 1100.0)
    assert steps.min() == 1
    assert steps.max() == 255
    assert (steps.diff() >= 0).all()


def test_coarse_steps_are_equally_wide_in_mels() -> None:
    lowest, highest = (1127 * torch.log1p(torch.tensor(f) / 700) for f in (40.0, 1100.0))
    middles = lowest + (highest - lowest) * torch.arange(255) / 254
    f0_hz = 700 * (torch.expm1(middles / 1127))
    assert coarse_pitch(f0_hz[None], 40.0, 1100.0).tolist() == [list(range(1, 256))]
