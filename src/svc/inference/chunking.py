"""Long recordings in pieces: where to cut them, and how to join what comes out.

              |<------------------ rendered ------------------>|
    chunk 1   |   context   |        kept        |   context   |
    chunk 2                        |   context   |        kept        |   context   |
                                                 |<-->| overlap, crossfaded

The context gives the network what it would see in one pass over everything; what it renders there
is thrown away. Where the context covers the network's reach, both sides of an overlap are the same
signal, and where it does not (attention, normalisation over time, dithering by random numbers) they
are similar or unrelated. The crossfade measures which it is and keeps the level in every case.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from svc.audio.levels import Levels, frame_levels_db
from svc.audio.slicing import find_cuts
from svc.audio.spec import AudioSpec


@dataclass(frozen=True)
class Chunk:
    """A piece of a recording, in frames of the hop grid."""

    start_frame: int
    """First frame that is kept, where the overlap with the chunk before begins."""
    stop_frame: int
    """One after the last frame that is kept, where the overlap with the next chunk ends."""
    render_start_frame: int
    """First frame that is rendered."""
    render_stop_frame: int
    """One after the last frame that is rendered."""


def plan_chunks(
    audio: Tensor,
    spec: AudioSpec,
    *,
    max_chunk_s: float = 30.0,
    overlap_s: float = 0.1,
    context_frames: int = 0,
) -> list[Chunk]:
    """Cut a recording at its quietest places into chunks that overlap.

    Args:
        audio: [T], T a whole number of hops.
        max_chunk_s: longest chunk that is rendered, overlap and context included.
        overlap_s: how long neighbouring chunks are crossfaded; rounded to an even number of frames.
        context_frames: frames rendered beyond both ends of what is kept, where there are any.

    Returns:
        At least one chunk for at least one frame. In their order, the chunks cover every frame.

    Raises:
        ValueError: overlap and context leave no room in a chunk.
    """
    return plan_chunks_by_level(
        frame_levels_db(audio, spec),
        spec,
        max_chunk_s=max_chunk_s,
        overlap_s=overlap_s,
        context_frames=context_frames,
    )


def plan_chunks_by_level(
    levels_db: Levels,
    spec: AudioSpec,
    *,
    max_chunk_s: float = 30.0,
    overlap_s: float = 0.1,
    context_frames: int = 0,
) -> list[Chunk]:
    """As `plan_chunks`, for what is there as the level of its frames.

    Args:
        levels_db: [N], RMS of the frames in dB, as of `frame_levels_db`.
    """
    frames = len(levels_db)
    half_overlap = round(overlap_s * spec.frame_rate_hz / 2)
    max_frames = int(max_chunk_s * spec.frame_rate_hz)
    core_frames = max_frames - 2 * (half_overlap + context_frames)
    if core_frames < 4 * half_overlap + 2:
        raise ValueError(
            f"max_chunk_s={max_chunk_s} ({max_frames} frames) must exceed twice the context "
            f"({context_frames} frames) and three overlaps ({2 * half_overlap} frames each)"
        )
    if frames <= max_frames:
        return [Chunk(0, frames, 0, frames)] if frames else []
    # Half a frame more or less, against rounding. A chunk is never shorter than an overlap, so that
    # no more than two of them sound at any time.
    core_s = (core_frames + 0.5) / spec.frame_rate_hz
    shortest_s = max(core_s / 4, (2 * half_overlap - 0.5) / spec.frame_rate_hz)
    cuts = find_cuts(levels_db, spec, core_s, shortest_s)
    return [
        Chunk(
            start_frame=(start := max(0, left - half_overlap)),
            stop_frame=(stop := min(frames, right + half_overlap)),
            render_start_frame=max(0, start - context_frames),
            render_stop_frame=min(frames, stop + context_frames),
        )
        for left, right in zip([0, *cuts], [*cuts, frames], strict=True)
    ]


def of_few_lengths(chunks: Sequence[Chunk], lengths: int = 8) -> list[Chunk]:
    """The same chunks with a little more context, so that only so many lengths are rendered.

    oneDNN keeps some 30 to 100 MB for every length that it meets: ten minutes in 21 chunks of
    different lengths took 2 GB, and an hour would take 12. All of one length would be a third more
    work.
    """
    frames = max((chunk.stop_frame for chunk in chunks), default=0)
    longest = max((c.render_stop_frame - c.render_start_frame for c in chunks), default=0)
    step = max(1, -(-longest // lengths))
    padded = []
    for chunk in chunks:
        length = chunk.render_stop_frame - chunk.render_start_frame
        length = min(longest, -(-length // step) * step)
        start = min(chunk.render_start_frame, frames - length)
        padded.append(replace(chunk, render_start_frame=start, render_stop_frame=start + length))
    return padded


def join(chunks: Sequence[Chunk], rendered: Iterable[Tensor], hop_samples: int) -> Tensor:
    """Join what was rendered for each chunk, context included.

    Args:
        chunks: as planned; they cover every frame.
        rendered: for each chunk [(render_stop_frame - render_start_frame) * hop_samples]. May be a
            generator, so that one chunk is in memory at a time.

    Returns:
        [T], T = last stop_frame * hop_samples.

    Raises:
        ValueError: a rendering has another length, or there are more or fewer of them than chunks.
    """
    joined = torch.zeros(chunks[-1].stop_frame * hop_samples if chunks else 0)
    done = 0
    for chunk, audio in zip(chunks, rendered, strict=True):
        expected = (chunk.render_stop_frame - chunk.render_start_frame) * hop_samples
        if audio.shape != (expected,):
            raise ValueError(f"expected a rendering of [{expected}], got {list(audio.shape)}")
        start, stop = chunk.start_frame * hop_samples, chunk.stop_frame * hop_samples
        first = start - chunk.render_start_frame * hop_samples
        kept = audio[first : first + stop - start]
        overlap = done - start
        joined[start:done] = crossfade(joined[start:done], kept[:overlap])
        joined[done:stop] = kept[overlap:]
        done = stop
    return joined


def crossfade(left: Tensor, right: Tensor) -> Tensor:
    """Fade from one signal to the other at constant power.

    Sine and cosine weights keep the power of signals that have nothing in common but raise equal
    ones by 3 dB; straight lines keep equal ones but let unrelated ones sink by 3 dB. With the
    correlation r of the two, the power of the sum is a² + b² + 2 r a b; dividing by its root keeps
    it for every r. For r = 1 the weights add up to 1, so that equal signals pass unchanged.

    Args:
        left: [T], heard at the beginning.
        right: [T], heard at the end.

    Returns:
        [T]; empty for T = 0.
    """
    position = (torch.arange(len(left), dtype=torch.float64) + 0.5) / max(1, len(left))
    fade_in, fade_out = torch.sin(torch.pi / 2 * position), torch.cos(torch.pi / 2 * position)
    a, b = left.double(), right.double()
    energy = (a.square().sum() * b.square().sum()).sqrt()
    # Opposite signals would need endless gain; they are treated as unrelated.
    correlation = float((a @ b / energy).clamp(0, 1)) if float(energy) > 0 else 0.0
    gain = (1 + 2 * correlation * fade_in * fade_out).rsqrt()
    return (gain * (fade_out * a + fade_in * b)).to(left.dtype)
