"""How reverberant a room is, as far as a voice in it shows that.

Legend: N frames of 512 samples at 44.1 kHz, K bands of 258 Hz.
"""

from collections.abc import Sequence

import numpy as np

from svc.doctor.frames import BAND_HZ, FRAME_S, Floats, band_levels_db

_FALL_DB, _FALL_SKIPPED_DB, _RISE_DB, _FALL_TOP_DB = 20.0, 5.0, 3.0, 12.0
_FALL_BAND_HZ = (1000.0, 4000.0)


def decay_times_s(band_power: Floats) -> list[float]:
    """Reverberation times read off the ends of notes and words, one for each end.

    After a sound ends, its level falls no faster than the room lets it. Every uninterrupted fall by
    20 dB from a loud frame, in the octaves from 1 to 4 kHz, is timed from -5 to -20 dB and
    stretched to 60 dB, as T15 is read off an impulse response (ISO 3382). Slow ends of the
    singer's own make it longer: a low percentile of many is the room (`reverberation_s`).

    Args:
        band_power: [N, K].

    Returns:
        Times in s, at least about 0.06 (the analysis window's own).
    """
    low, high = (int(hz / BAND_HZ) for hz in _FALL_BAND_HZ)
    levels = band_levels_db(band_power[:, low:high].sum(axis=1))
    if len(levels) < 2:
        return []
    loud_db = float(np.percentile(levels, 90)) - _FALL_TOP_DB
    times: list[float] = []
    start = 0
    while start < len(levels) - 1:
        if levels[start] < loud_db or levels[start + 1] >= levels[start]:
            start += 1
            continue
        stop = _end_of_fall(levels, start)
        if stop is None:
            start += 1
            continue
        fall = levels[start : stop + 1]
        frames = _crossing(fall, fall[0] - _FALL_DB) - _crossing(fall, fall[0] - _FALL_SKIPPED_DB)
        times.append(float(frames * FRAME_S * 60 / (_FALL_DB - _FALL_SKIPPED_DB)))
        start = stop
    return times


def reverberation_s(decays_s: Sequence[float], at_least: int = 2) -> float | None:
    """The room's reverberation time as far as the voice shows it: the lower quartile.

    It is a hint and comes out short, because the direct sound is a part of every fall. Measured on
    synthetic singers with the direct sound 6 dB above the echo: 0.07 to 0.11 dry, 0.15 in a room of
    0.2 s, 0.24 to 0.36 of 0.5 s, 0.48 to 0.65 of 1 s, 1.2 of 2 s.

    Returns:
        None with fewer than `at_least` decays.
    """
    return float(np.percentile(decays_s, 25)) if len(decays_s) >= at_least else None


def _end_of_fall(levels: Floats, start: int) -> int | None:
    """First frame that is 20 dB below `start`, if nothing rises by 3 dB on the way."""
    lowest = levels[start]
    for frame in range(start + 1, len(levels)):
        level = levels[frame]
        if level > min(lowest + _RISE_DB, levels[start]):
            return None
        lowest = min(lowest, level)
        if level <= levels[start] - _FALL_DB:
            return frame
    return None


def _crossing(fall: Floats, level_db: float) -> float:
    """Fractional index at which a fall first passes a level."""
    after = int(np.argmax(fall <= level_db))
    return after - float((level_db - fall[after]) / (fall[after - 1] - fall[after]))
