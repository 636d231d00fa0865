"""Reverberation in rooms of which it is known."""

from pathlib import Path

import numpy as np

from doctor.material import examined, in_a_room, sung
from svc.doctor.reverberation import reverberation_s


def test_rooms_are_told_apart(tmp_path: Path) -> None:
    heard = {}
    for rt60_s in (0.2, 0.5, 1.0):
        decays: list[float] = []
        for index in range(3):
            audio = in_a_room(sung(index=index), rt60_s)
            decays += examined(tmp_path / f"{rt60_s}-{index}.wav", audio).decays_s
        heard[rt60_s] = reverberation_s(decays) or np.nan
    dry = reverberation_s(examined(tmp_path / "dry.wav", sung()).decays_s) or np.nan
    assert dry < 0.13 < heard[0.2] < 0.2 < heard[0.5] < 0.4 < heard[1.0] < 1.2, heard
