"""Slicing: nothing that sounds is lost, nothing is too long, and cuts fall where it is quiet."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from svc.audio.io import read_audio
from svc.audio.levels import frame_levels_db, silence_threshold_db
from svc.audio.slicing import Slice, find_cuts, slice_at_silences, slice_levels
from svc.audio.spec import AudioSpec
from svc.errors import UserError

SPEC = AudioSpec()
RATE_HZ = SPEC.sample_rate_hz


def tone(seconds: float, level_db: float = -15.0) -> np.ndarray:
    """A steady sine with an RMS of `level_db`."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return math.sqrt(2) * 10 ** (level_db / 20) * np.sin(2 * np.pi * 220 * time_s)


def joined(*parts: np.ndarray, noise_db: float = -90.0, seed: int = 0) -> torch.Tensor:
    """The parts one after another, in a room with noise."""
    audio = np.concatenate(parts)
    noise = np.random.default_rng(seed).standard_normal(len(audio)) * 10 ** (noise_db / 20)
    return torch.from_numpy((audio + noise).astype(np.float32))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE_HZ))


def random_song(seed: int) -> torch.Tensor:
    """Phrases and pauses of random length and level."""
    rng = np.random.default_rng(seed)
    gain_db = rng.uniform(-30, 0)
    parts = []
    for _ in range(rng.integers(1, 12)):
        parts.append(silence(rng.choice([0.05, 0.3, 0.6, 1.5, 4.0]) * rng.uniform(0.8, 1.2)))
        parts.append(
            tone(rng.choice([0.2, 1.0, 4.0, 15.0]) * rng.uniform(0.8, 1.2), rng.uniform(-35, -5))
        )
    parts.append(silence(rng.uniform(0, 3)))
    return 10 ** (gain_db / 20) * joined(*parts, noise_db=rng.uniform(-90, -65), seed=seed)


def check_invariants(
    audio: torch.Tensor, slices: list[Slice], min_s: float = 3.0, max_s: float = 12.0
) -> None:
    frames = SPEC.frames(len(audio))
    covered = np.zeros(frames, dtype=int)
    last = 0
    for piece in slices:
        assert piece.start_sample % SPEC.hop_samples == piece.stop_sample % SPEC.hop_samples == 0
        assert last <= piece.start_sample < piece.stop_sample <= frames * SPEC.hop_samples
        last = piece.stop_sample
        seconds = (piece.stop_sample - piece.start_sample) / RATE_HZ
        assert seconds <= max_s
        one_frame_s = SPEC.hop_samples / RATE_HZ
        assert seconds >= min(min_s - one_frame_s, frames * one_frame_s)
        covered[piece.start_sample // SPEC.hop_samples : last // SPEC.hop_samples] += 1
    levels_db = frame_levels_db(audio, SPEC)
    assert (covered[levels_db >= silence_threshold_db(levels_db, SPEC)] == 1).all()


@pytest.mark.parametrize("seed", range(24))
def test_invariants_hold_for_random_songs(seed: int) -> None:
    audio = random_song(seed)
    slices = slice_at_silences(audio, SPEC)
    check_invariants(audio, slices)
    assert slices == slice_at_silences(audio.clone(), SPEC)


@pytest.mark.parametrize("seed", range(4))
def test_invariants_hold_for_other_limits(seed: int) -> None:
    audio = random_song(seed)
    check_invariants(audio, slice_at_silences(audio, SPEC, min_s=1.0, max_s=2.0), 1.0, 2.0)
    check_invariants(audio, slice_at_silences(audio, SPEC, min_s=4.0, max_s=30.0), 4.0, 30.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_gain_of_a_recording_does_not_matter(seed: int) -> None:
    audio = joined(tone(4), silence(2), tone(14, -30), silence(1), tone(2), seed=seed)
    slices = slice_at_silences(audio, SPEC)
    assert len(slices) >= 3
    # Powers of two, so that not even rounding differs.
    assert slice_at_silences(audio / 4, SPEC) == slices


def test_levels_of_blocks_do_as_well() -> None:
    audio = random_song(3)
    blocks = [frame_levels_db(block, SPEC) for block in audio.split(100 * SPEC.hop_samples)]
    assert slice_levels(np.concatenate(blocks), SPEC) == slice_at_silences(audio, SPEC)


def test_long_silences_are_left_out() -> None:
    audio = joined(silence(5), tone(4), silence(10), tone(5), silence(5))
    first, second = slice_at_silences(audio, SPEC)
    for piece, start_s, stop_s in [(first, 5, 9), (second, 19, 24)]:
        assert piece.start_sample / RATE_HZ == pytest.approx(start_s - 0.1, abs=0.03)
        assert piece.stop_sample / RATE_HZ == pytest.approx(stop_s + 0.1, abs=0.03)


def test_short_silences_stay() -> None:
    audio = joined(tone(2), silence(0.4), tone(2))
    (piece,) = slice_at_silences(audio, SPEC)
    assert piece == Slice(0, SPEC.frames(len(audio)) * SPEC.hop_samples)


def test_single_words_are_joined() -> None:
    audio = joined(*[part for _ in range(8) for part in (tone(0.7), silence(1.0))])
    slices = slice_at_silences(audio, SPEC)
    check_invariants(audio, slices)
    assert 2 <= len(slices) <= 4


def test_a_lone_word_takes_silence_along() -> None:
    audio = joined(silence(20), tone(0.5), silence(20))
    (piece,) = slice_at_silences(audio, SPEC)
    assert (piece.stop_sample - piece.start_sample) / RATE_HZ == pytest.approx(3.0, abs=0.02)
    assert piece.start_sample / RATE_HZ < 20 < 20.5 < piece.stop_sample / RATE_HZ


def test_a_tone_without_silence_is_cut_where_it_is_quietest() -> None:
    audio = joined(*[part for _ in range(4) for part in (tone(7.3), tone(0.2, -27))])
    slices = slice_at_silences(audio, SPEC)
    check_invariants(audio, slices)
    dips_s = [7.3 + 7.5 * i + 0.1 for i in range(3)]
    assert [s.stop_sample / RATE_HZ for s in slices[:-1]] == pytest.approx(dips_s, abs=0.1)
    assert [s.start_sample for s in slices[1:]] == [s.stop_sample for s in slices[:-1]]


def test_a_perfectly_steady_tone_is_cut() -> None:
    audio = joined(tone(61), noise_db=-200)
    slices = slice_at_silences(audio, SPEC)
    check_invariants(audio, slices)
    assert slices[-1].stop_sample == SPEC.frames(len(audio)) * SPEC.hop_samples
    assert len(slices) == 6


@pytest.mark.parametrize("noise_db", [-100.0, -62.0, -52.0])
def test_room_noise_counts_as_silence(noise_db: float) -> None:
    audio = joined(tone(4, -10), silence(6), tone(4, -10), noise_db=noise_db)
    assert len(slice_at_silences(audio, SPEC)) == 2


def test_a_pianissimo_is_no_room_noise() -> None:
    # 35 dB below the forte, and the quietest thing in the recording.
    audio = joined(tone(8, -10), tone(8, -45), tone(8, -10), noise_db=-100)
    slices = slice_at_silences(audio, SPEC)
    assert sum(s.stop_sample - s.start_sample for s in slices) == len(audio) // 512 * 512


def test_a_click_does_not_make_a_quiet_singer_silent() -> None:
    audio = joined(tone(8, -45), noise_db=-80)
    audio[RATE_HZ] = 1.0
    (piece,) = slice_at_silences(audio, SPEC)
    assert piece.stop_sample - piece.start_sample == len(audio) // 512 * 512


@pytest.mark.parametrize("seconds", [0.6, 1.0, 2.9])
def test_a_short_recording_gives_one_slice(seconds: float) -> None:
    audio = joined(tone(seconds / 3), silence(seconds / 3), tone(seconds / 3))
    assert slice_at_silences(audio, SPEC) == [Slice(0, SPEC.frames(len(audio)) * 512)]


@pytest.mark.parametrize(
    "audio", [torch.zeros(0), torch.zeros(100), joined(tone(0.4)), torch.zeros(10 * RATE_HZ)]
)
def test_nothing_to_learn_from_gives_nothing(audio: torch.Tensor) -> None:
    assert slice_at_silences(audio, SPEC) == []


@pytest.mark.parametrize(
    "limits",
    [
        {"min_s": 3.0, "max_s": 5.0},
        {"min_s": 0.0},
        {"silence_db": 0.0},
        {"margin_s": -0.1},
        {"margin_s": 0.3},
    ],
)
def test_contradictory_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(reversed(limits))):
        slice_at_silences(torch.zeros(RATE_HZ), SPEC, **limits)


def test_more_than_one_channel_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\[T\]"):
        slice_at_silences(torch.zeros(2, RATE_HZ), SPEC)


def test_other_frame_grids() -> None:
    spec = AudioSpec(sample_rate_hz=16_000, hop_samples=160, window_samples=1024, mel_max_hz=8_000)
    audio = joined(tone(20), noise_db=-80)[: 20 * 16_000]
    slices = slice_at_silences(audio, spec)
    assert all(s.start_sample % 160 == 0 for s in slices)
    assert all((s.stop_sample - s.start_sample) / 16_000 <= 12 for s in slices)


def test_real_voices_lose_nothing_but_silence(shared: Path) -> None:
    for path in sorted((shared / "data" / "train" / "vs_m1").glob("*.flac"))[:8]:
        audio = read_audio(path)
        slices = slice_at_silences(audio, SPEC)
        check_invariants(audio, slices)
        kept = torch.cat([audio[s.start_sample : s.stop_sample] for s in slices])
        assert kept.square().sum() > 0.9999 * audio.square().sum()


# --- cuts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_s", [0.1, 1.0, 30.0])
def test_cuts_leave_no_segment_too_long(seed: int, max_s: float) -> None:
    rng = np.random.default_rng(seed)
    levels_db = rng.uniform(-60, -10, rng.integers(0, 12_000))
    longest = int(max_s * SPEC.frame_rate_hz)
    cuts = find_cuts(levels_db, SPEC, max_s)
    segments = np.diff([0, *cuts, len(levels_db)])
    assert segments.max() <= longest
    if cuts:
        assert segments.min() >= longest // 4


def test_cuts_are_the_best_ones() -> None:
    """Against trying out every segmentation of a short signal."""
    levels_db = np.random.default_rng(0).uniform(-60, -10, 60)
    spec = AudioSpec(sample_rate_hz=1000, hop_samples=100, window_samples=200, mel_max_hz=500)
    # Ten frames a second, so that the average around a cut is over one frame on either side.
    power = 10 ** (levels_db / 10)
    padded = np.concatenate([power[:1], power, power[-1:]])
    cost = 10 * np.log10((padded[:-1] + padded[1:]) / 2)
    cost = cost - cost.min() + 10

    def least(start: int) -> tuple[float, list[int]]:
        if 60 - start <= 20:
            rest: tuple[float, list[int]] = (0.0, [])
        else:
            rest = (math.inf, [])
        for cut in range(start + 9, min(start + 20, 60 - 9) + 1):
            total, cuts = solved[cut]
            rest = min(rest, (cost[cut] + total, [cut, *cuts]))
        return rest

    solved: dict[int, tuple[float, list[int]]] = {}
    for start in range(60, -1, -1):
        solved[start] = least(start)
    assert find_cuts(levels_db, spec, max_s=2.0, min_s=0.9) == solved[0][1]


@pytest.mark.parametrize(("max_s", "min_s"), [(0.0, None), (0.02, None), (2.0, 1.5)])
def test_impossible_cuts_are_refused(max_s: float, min_s: float | None) -> None:
    with pytest.raises(ValueError, match="max_s"):
        find_cuts(np.zeros(1000), SPEC, max_s, min_s)
