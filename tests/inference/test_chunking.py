"""Cutting and joining, without a model."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.inference.chunking import Chunk, crossfade, join, of_few_lengths, plan_chunks

SPEC = AudioSpec()
HOP = SPEC.hop_samples


def tone(samples: int, f0_hz: float = 220.0, phase: float = 0.0) -> Tensor:
    t = torch.arange(samples, dtype=torch.float64) / SPEC.sample_rate_hz
    return 0.5 * torch.sin(2 * math.pi * f0_hz * t + phase).float()


def noise(samples: int, seed: int) -> Tensor:
    return 0.2 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def cut_out(audio: Tensor, chunk: Chunk) -> Tensor:
    return audio[chunk.render_start_frame * HOP : chunk.render_stop_frame * HOP]


class TestPlan:
    @pytest.mark.parametrize("frames", [1, 86, 87, 200, 431, 1000])
    @pytest.mark.parametrize("context", [0, 7])
    def test_covers_everything_within_the_limit(self, frames: int, context: int) -> None:
        audio = noise(frames * HOP, 0)
        chunks = plan_chunks(audio, SPEC, max_chunk_s=1.0, context_frames=context)
        assert chunks[0].start_frame == 0
        assert chunks[-1].stop_frame == frames
        assert len(chunks) == 1 if frames <= 86 else len(chunks) > frames / 86
        for chunk in chunks:
            assert 0 <= chunk.render_start_frame <= chunk.start_frame < chunk.stop_frame
            assert chunk.stop_frame <= chunk.render_stop_frame <= frames
            assert chunk.render_stop_frame - chunk.render_start_frame <= 86
        for left, right in pairwise(chunks):
            assert left.stop_frame - right.start_frame == 8  # 0.1 s, an even number of frames
            assert right.render_start_frame == max(0, right.start_frame - context)
        # No more than two of them sound at any time.
        for first, third in zip(chunks, chunks[2:], strict=False):
            assert first.stop_frame <= third.start_frame

    def test_cuts_in_the_silence(self) -> None:
        audio = tone(300 * HOP)
        audio[140 * HOP : 160 * HOP] *= 1e-3
        chunks = plan_chunks(audio, SPEC, max_chunk_s=2.6, overlap_s=0.05)
        assert len(chunks) == 2
        assert 140 <= chunks[1].start_frame < chunks[0].stop_frame <= 160

    def test_without_a_frame_there_are_no_chunks(self) -> None:
        assert plan_chunks(torch.zeros(HOP - 1), SPEC) == []

    def test_refuses_a_context_that_leaves_no_room(self) -> None:
        with pytest.raises(ValueError, match="context"):
            plan_chunks(torch.zeros(100 * HOP), SPEC, max_chunk_s=1.0, context_frames=40)


class TestJoin:
    @pytest.mark.parametrize("make", [tone, lambda n: noise(n, 1)], ids=["tone", "noise"])
    def test_pieces_of_one_signal_give_it_back(self, make) -> None:  # type: ignore[no-untyped-def]
        audio = make(700 * HOP)
        chunks = plan_chunks(audio, SPEC, max_chunk_s=2.0, context_frames=5)
        assert len(chunks) >= 4
        joined = join(chunks, (cut_out(audio, chunk) for chunk in chunks), HOP)
        torch.testing.assert_close(joined, audio, atol=1e-6, rtol=0)

    def test_unrelated_pieces_keep_their_level(self) -> None:
        audio = noise(700 * HOP, 2)
        chunks = plan_chunks(audio, SPEC, max_chunk_s=2.0, overlap_s=0.5)
        joined = join(
            chunks, (noise(len(cut_out(audio, c)), 10 + i) for i, c in enumerate(chunks)), HOP
        )
        overlaps = [joined[b.start_frame * HOP : a.stop_frame * HOP] for a, b in pairwise(chunks)]
        level_db = 20 * math.log10(float(torch.cat(overlaps).square().mean().sqrt()) / 0.2)
        assert abs(level_db) < 0.2

    def test_refuses_renderings_of_another_length(self) -> None:
        chunks = plan_chunks(torch.zeros(10 * HOP), SPEC)
        with pytest.raises(ValueError, match="5120"):
            join(chunks, [torch.zeros(10 * HOP - 1)], HOP)


class TestCrossfade:
    def test_equal_signals_pass_unchanged(self) -> None:
        audio = tone(4096)
        torch.testing.assert_close(crossfade(audio, audio), audio, atol=1e-7, rtol=0)

    def test_begins_with_left_and_ends_with_right(self) -> None:
        mixed = crossfade(noise(4096, 3), tone(4096))
        assert float((mixed[:8] - noise(4096, 3)[:8]).abs().max()) < 0.01
        assert float((mixed[-8:] - tone(4096)[-8:]).abs().max()) < 0.01

    @pytest.mark.parametrize("phase", [0.3, 1.0, math.pi / 2])
    def test_a_shift_of_phase_leaves_the_level(self, phase: float) -> None:
        mixed = crossfade(tone(8_800, 441.0), tone(8_800, 441.0, phase))
        # Peak of every period of 100 samples.
        peaks = mixed.reshape(-1, 100).abs().amax(dim=1)
        assert float((20 * torch.log10(peaks / 0.5)).abs().max()) < 0.1

    def test_silence_and_nothing(self) -> None:
        assert crossfade(torch.zeros(0), torch.zeros(0)).shape == (0,)
        assert not crossfade(torch.zeros(512), torch.zeros(512)).any()
        opposite = crossfade(tone(512), -tone(512))
        assert float(opposite.abs().max()) <= 0.5


def test_few_lengths_keep_what_is_kept_and_only_gain_context() -> None:
    planned = [Chunk(0, 40, 0, 45), Chunk(30, 70, 25, 75), Chunk(60, 80, 55, 80)]
    padded = of_few_lengths(planned, lengths=5)  # multiples of 10 frames
    assert [(c.start_frame, c.stop_frame) for c in padded] == [(0, 40), (30, 70), (60, 80)]
    assert [(c.render_start_frame, c.render_stop_frame) for c in padded] == [
        (0, 50),
        (25, 75),
        (50, 80),
    ]
    assert of_few_lengths([]) == []


@pytest.mark.parametrize("lengths", [1, 3, 8])
def test_as_few_lengths_as_wanted(lengths: int) -> None:
    random = torch.Generator().manual_seed(lengths)
    bounds = torch.randint(5, 60, (40,), generator=random).cumsum(0).tolist()
    planned = [
        Chunk(start, stop, max(0, start - 3), min(bounds[-1], stop + 3))
        for start, stop in pairwise([0, *bounds])
    ]
    padded = of_few_lengths(planned, lengths)
    found = {c.render_stop_frame - c.render_start_frame for c in padded}
    assert len(found) <= lengths
    longest = max(c.render_stop_frame - c.render_start_frame for c in planned)
    assert max(found) == longest
    for before, after in zip(planned, padded, strict=True):
        assert 0 <= after.render_start_frame <= before.render_start_frame
        assert before.render_stop_frame <= after.render_stop_frame <= bounds[-1]


def test_a_single_chunk_stays_as_it_is() -> None:
    assert of_few_lengths([Chunk(0, 9, 0, 9)]) == [Chunk(0, 9, 0, 9)]
