"""Levels of frames."""

import math

import numpy as np
import pytest
import torch

from svc.audio.levels import frame_levels_db
from svc.audio.spec import AudioSpec

SPEC = AudioSpec()


@pytest.mark.parametrize("level_db", [-60.0, -15.0, -3.1])
def test_levels_are_rms(level_db: float) -> None:
    time_s = torch.arange(SPEC.sample_rate_hz) / SPEC.sample_rate_hz
    sine = math.sqrt(2) * 10 ** (level_db / 20) * torch.sin(2 * math.pi * 220 * time_s)
    levels_db = frame_levels_db(sine, SPEC)
    assert levels_db.shape == (86,)
    # 512 samples are not a whole number of periods, hence the tolerance.
    assert levels_db == pytest.approx(np.full(86, level_db), abs=1.0)
    assert levels_db.mean() == pytest.approx(level_db, abs=0.05)


def test_levels_have_a_floor() -> None:
    assert (frame_levels_db(torch.zeros(2048), SPEC) == -120).all()
