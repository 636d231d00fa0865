"""What is measured on a recording, one measure per function.

The thresholds inside the measures were chosen on material of which the truth is known: synthetic
singers with known noise, echo and second voices, and 130 real recordings of known bandwidth
(docs/doctor.md has the figures). What a value means for a dataset is decided in
`svc.doctor.verdict`.

Legend: N frames of 512 samples at 44.1 kHz, K bands of 258 Hz.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svc.audio.decoding import Census, decode_blocks
from svc.audio.levels import Levels, silence_threshold_db
from svc.doctor.frames import BAND_HZ, SPEC, Floats, band_levels_db

LOWEST_HISTOGRAM_MIDI = 31
HISTOGRAM_SEMITONES = 57
"""The F0 histogram counts semitones from G1 (49 Hz) to D#6 (1245 Hz)."""
F0_PERCENTILES = (5.0, 50.0, 95.0)

_QUIETEST_SHARE = 0.1
_MIN_NOISE_FRAMES = 10
_FULL_SCALE = 0.999
_FLAT_RUN = 3


@dataclass(frozen=True)
class Bandwidth:
    """How far up a recording reaches."""

    bandwidth_hz: float
    """Up to here the sound comes and goes; above is nothing, or steady noise."""
    cut_off: bool
    """Whether it ends at an edge as a filter makes it (upsampling, MP3), and does not fade."""


@dataclass(frozen=True)
class F0Range:
    """Where a voice sings."""

    low_hz: float
    """5th percentile over voiced frames; 0 where nothing is voiced, as for the next two."""
    median_hz: float
    high_hz: float
    """95th percentile."""
    voiced_share: float
    histogram: tuple[int, ...]
    """Voiced frames in each semitone from MIDI note 31 (G1, 49 Hz) on."""


def bandwidth(band_power: Floats) -> Bandwidth:
    """True bandwidth, whatever the file's sample rate says.

    In a band that the voice reaches, the power comes and goes; steady noise (of the room, of the
    converter, of the dither) hardly varies, since 12 bins are averaged. So the voice reaches as far
    as two neighbouring bands' 95th percentile lies 6 dB above the 10th. What is 90 dB below the
    strongest band, or under -108 dBFS, is rounding (16-bit quantisation noise is -117 dBFS in a
    band).

    An edge is a filter's where the level falls by 20 dB or more within about 1.3 kHz, into what is
    either as quiet as dither or quieter, in pauses too, than what is below the edge. Measured: 32
    dB and more on cut recordings, at most 11 dB on others.

    Args:
        band_power: [N, K].
    """
    db = band_levels_db(band_power)
    loud, quiet = np.percentile(db, [95, 10], axis=0)
    floor_db = max(-108.0, float(loud.max()) - 90.0)
    varies = np.maximum(loud, floor_db) - np.maximum(quiet, floor_db) > 6
    reached = np.flatnonzero(varies[1:] & varies[:-1])
    if not len(reached):
        return Bandwidth(0.0, False)
    edge = int(reached[-1]) + 2
    below = slice(max(edge - 5, 0), max(edge - 1, 1))
    above = slice(edge + 1, edge + 5)
    if edge + 1 >= len(loud):
        return Bandwidth(edge * BAND_HZ, False)
    drop_db = loud[below].max() - loud[above].max()
    pause_drop_db = quiet[below].max() - quiet[above].max()
    cut = drop_db >= 20 and (loud[above].max() <= -85 or pause_drop_db >= 10)
    return Bandwidth(edge * BAND_HZ, bool(cut))


def clipped_share(path: Path) -> tuple[float, float]:
    """Share of clipped samples and peak, before any resampling.

    A sample is clipped where it is at full scale (0.999 or more), or in a run of three or more
    equal ones within 1 % of the file's peak: flat tops of a recording that was turned down after
    it was clipped.

    Returns:
        Share of all values, 0 to 1, and the peak in dB relative to full scale.

    Raises:
        AudioFileError: it cannot be read.
    """
    census = Census()
    full_scale = 0
    values = 0
    flat = np.zeros(1001, dtype=np.int64)  # by level in thousandths
    for block in decode_blocks(path, census):
        level = np.abs(block)
        values += level.size
        full_scale += int(np.count_nonzero(level >= _FULL_SCALE))
        np.add.at(flat, (1000 * level[_in_flat_run(block) & (level < _FULL_SCALE)]).astype(int), 1)
    tops = int(flat[int(1000 * 0.99 * min(census.peak, 1.0)) :].sum()) if census.peak > 0.1 else 0
    return (full_scale + tops) / values, float(20 * np.log10(max(census.peak, 1e-10)))


def active_level_db(levels_db: Levels) -> float:
    """Level of the frames that are not silent, dB relative to full scale.

    Args:
        levels_db: [N].
    """
    active = levels_db[levels_db >= silence_threshold_db(levels_db, SPEC)]
    return _mean_db(active) if len(active) else float(np.max(levels_db, initial=-120.0))


def silence_share(levels_db: Levels) -> float:
    """Share of frames that preparation would call silent, 0 to 1.

    Args:
        levels_db: [N].
    """
    return float(np.mean(levels_db < silence_threshold_db(levels_db, SPEC)))


def noise_floor_db(levels_db: Floats, f0_hz: Floats) -> float | None:
    """Level of what is heard when nobody sings, dB relative to full scale.

    The mean of the quietest tenth of all frames, as long as they are unvoiced: where a singer does
    not pause for 0.12 s there is nothing to measure it on. It is an upper bound where pauses are
    filled with breath.

    Args:
        levels_db: [N].
        f0_hz: [N], 0 where unvoiced.

    Returns:
        None where it cannot be measured.
    """
    count = int(len(levels_db) * _QUIETEST_SHARE)
    quietest = np.argsort(levels_db, kind="stable")[:count]
    unvoiced = quietest[f0_hz[quietest] == 0]
    if len(unvoiced) < _MIN_NOISE_FRAMES:
        return None
    return _mean_db(levels_db[unvoiced])


def several_voices(off_harmonic: Floats) -> float | None:
    """How much of the tonal part does not belong to the leading voice, 0 to 1.

    Measured (mean over frames): 0.00 to 0.03 on nearly all single voices and 0.07 at most, 0.06 and
    more with a second voice at most 6 dB weaker, 0.09 and more with music 10 dB below the voice. A
    strong echo, in which earlier notes sound on, reaches 0.07 (1 s) and more, so that a verdict
    also looks at the trackers (`svc.doctor.verdict`).

    Args:
        off_harmonic: [P] from `svc.doctor.voices`.

    Returns:
        None where fewer than 8 frames are steady enough to tell.
    """
    return float(off_harmonic.mean()) if len(off_harmonic) >= 8 else None


def f0_range(f0_hz: Floats) -> F0Range:
    """Percentiles and histogram over the voiced frames.

    Args:
        f0_hz: [N], 0 where unvoiced.
    """
    voiced = f0_hz[f0_hz > 0]
    low, median, high = np.percentile(voiced, F0_PERCENTILES) if len(voiced) else np.zeros(3)
    midi = np.rint(69 + 12 * np.log2(voiced / 440)).astype(np.int64) - LOWEST_HISTOGRAM_MIDI
    counts = np.bincount(midi.clip(0, HISTOGRAM_SEMITONES - 1), minlength=HISTOGRAM_SEMITONES)
    return F0Range(
        round(float(low), 1),
        round(float(median), 1),
        round(float(high), 1),
        round(len(voiced) / max(len(f0_hz), 1), 4),
        tuple(int(count) for count in counts),
    )


def tracker_disagreement(f0_hz: Floats, second_f0_hz: Floats) -> float | None:
    """Share of the voiced frames in which two trackers are more than 50 cents apart.

    Measured: 0.00 to 0.33 on single voices (speech and quick ornaments at the upper end), 0.15 to
    0.6 with a second voice or music.

    Args:
        f0_hz: [N], 0 where unvoiced.
        second_f0_hz: [N] of another method.

    Returns:
        None where nothing is voiced.
    """
    voiced = f0_hz > 0
    if not voiced.any():
        return None
    other = np.maximum(second_f0_hz[voiced], 1.0)
    return float(np.mean(np.abs(1200 * np.log2(other / f0_hz[voiced])) > 50))


def _in_flat_run(block: Floats) -> NDArray[np.bool_]:
    """[frames, channels] whether a sample is one of three or more equal ones in a row."""
    same = np.zeros(block.shape, dtype=np.bool_)
    if len(block) >= _FLAT_RUN:
        middle = (block[1:-1] == block[:-2]) & (block[1:-1] == block[2:])
        for shift in range(_FLAT_RUN):
            same[shift : len(block) - _FLAT_RUN + 1 + shift] |= middle
    return same


def _mean_db(levels_db: Floats) -> float:
    return float(10 * np.log10(np.mean(10.0 ** (levels_db / 10))))


def total_histogram(histograms: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Sum of F0 histograms."""
    total = np.zeros(HISTOGRAM_SEMITONES, dtype=np.int64)
    for histogram in histograms:
        total += np.asarray(histogram)
    return tuple(int(count) for count in total)
