"""Mels of any length through a vocoder alone."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.errors import UserErrors
from svc.inference.chunking import plan_chunks_by_level
from svc.inference.vocoding import _excitation, _levels_db, render_mel
from svc.models.griffin_lim import GriffinLim
from svc.models.nsf_hifigan import NsfHifiGan

SPEC = AudioSpec(mel_bins=16)


def tiny_vocoder(**options: Any) -> NsfHifiGan:
    torch.manual_seed(0)
    vocoder = NsfHifiGan(
        mel_bins=16,
        initial_channels=8,
        upsample_rates=(16, 32),
        upsample_kernels=(16, 32),
        resblock_kernels=(3,),
        resblock_dilations=((1,),),
        harmonics=1,
        **options,
    ).eval()
    vocoder.fold_weight_norm()
    return vocoder.requires_grad_(False)


def sung(frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """A mel [M, N] with rests, F0 and voicing."""
    rng = torch.Generator().manual_seed(1)
    mel = torch.randn(16, frames, generator=rng) - 4
    rests = torch.arange(frames) % 100 > 90
    mel[:, rests] -= 5
    f0_hz = 150 + 100 * torch.rand(frames, generator=rng)
    return mel, f0_hz, ~rests


def whole(vocoder: Any, mel: Tensor, f0_hz: Tensor, voiced: Tensor, seed: int = 0) -> Tensor:
    """[T] in one pass, with the same excitation."""
    source = _excitation(vocoder, f0_hz, voiced, seed)
    with torch.inference_mode():
        return vocoder(mel[None], f0_hz[None], voiced[None], source=source)[0, 0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("shaped", [False, True])
def test_chunks_are_the_whole(shaped: bool) -> None:
    vocoder = tiny_vocoder(shaped_source=shaped)
    mel, f0_hz, voiced = sung(700)
    expected = whole(vocoder, mel, f0_hz, voiced)
    rendered = render_mel(vocoder, mel, f0_hz, voiced, SPEC, max_chunk_s=2.0)
    assert rendered.shape == expected.shape == (700 * 512,)
    assert float(expected.abs().max()) > 0.01
    assert float((rendered - expected).abs().max()) < 1e-5
    # Where nothing is crossfaded, the same but for the last bit: oneDNN adds up in an order that
    # depends on the length.
    chunks = plan_chunks_by_level(
        _levels_db(mel), SPEC, max_chunk_s=2.0, context_frames=vocoder.receptive_frames
    )
    assert len(chunks) > 4
    bounds = [0, *(c.start_frame for c in chunks[1:]), 700]
    ends = [0, *(c.stop_frame for c in chunks[:-1])]
    alone = [
        slice(max(a, b) * 512, c * 512) for a, b, c in zip(bounds, ends, bounds[1:], strict=False)
    ]
    difference = torch.cat([rendered[s] - expected[s] for s in alone])
    assert len(difference) > 0.8 * len(expected)
    assert float(difference.abs().max()) < 1e-6


def test_a_vocoder_without_sines_is_chunked_as_well() -> None:
    vocoder = GriffinLim(mel_bins=16, iterations=3)
    mel, f0_hz, voiced = sung(300)
    rendered = render_mel(vocoder, mel, f0_hz, voiced, SPEC, max_chunk_s=1.5)
    expected = whole(vocoder, mel, f0_hz, voiced)
    assert float((rendered - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length() -> None:
    """Ten minutes: nothing is larger than what a chunk needs but the excitation and the result."""
    vocoder = tiny_vocoder()
    frames, hop = round(600 * SPEC.frame_rate_hz), SPEC.hop_samples
    mel, f0_hz, voiced = sung(frames)
    longest: list[int] = []
    handle = vocoder.register_forward_pre_hook(
        lambda _, inputs: longest.append(inputs[0].shape[-1])
    )
    rendered = render_mel(vocoder, mel, f0_hz, voiced, SPEC, max_chunk_s=10.0)
    handle.remove()
    assert rendered.shape == (frames * hop,)
    assert rendered.isfinite().all()
    assert len(longest) >= 60
    assert max(longest) <= 10 * SPEC.frame_rate_hz
    assert len(set(longest)) <= 8, "oneDNN keeps memory for every length"


def test_the_seed_decides_and_progress_is_told() -> None:
    vocoder = tiny_vocoder()
    inputs = sung(300)
    told: list[float] = []
    first, again, other = (
        render_mel(vocoder, *inputs, SPEC, max_chunk_s=2.0, seed=seed, progress=told.append)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert told[-1] == 1.0
    assert told == sorted(told[: len(told) // 3]) * 3


def test_bf16_is_close() -> None:
    vocoder = tiny_vocoder()
    inputs = sung(60)
    exact = render_mel(vocoder, *inputs, SPEC)
    close = render_mel(vocoder, *inputs, SPEC, precision="bf16")
    assert close.dtype == torch.float32
    assert 0 < float((exact - close).abs().max()) < 0.05


@pytest.mark.parametrize("vocoder", [tiny_vocoder(), GriffinLim(mel_bins=16, iterations=1)])
def test_no_frames_are_no_samples(vocoder: Any) -> None:
    nothing = torch.zeros(0)
    assert render_mel(vocoder, torch.zeros(16, 0), nothing, nothing.bool(), SPEC).shape == (0,)
    audio = vocoder(torch.zeros(1, 16, 0), torch.zeros(1, 0), torch.zeros(1, 0).bool())
    assert audio.shape == (1, 1, 0)


@pytest.mark.parametrize("called_voiced", [False, True])
def test_f0_of_zeros_is_unvoiced(called_voiced: bool) -> None:
    vocoder = tiny_vocoder(shaped_source=True)
    mel, f0_hz, _ = sung(40)
    voiced = torch.full((40,), called_voiced)
    audio = render_mel(vocoder, mel, torch.zeros(40), voiced, SPEC)
    assert audio.isfinite().all()
    unvoiced = render_mel(vocoder, mel, f0_hz, torch.zeros(40).bool(), SPEC)
    assert torch.equal(audio, unvoiced)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, f, v: (m[:15], f, v), r"mel is \[15, 40\] and must be \[16, frames\]"),
        (lambda m, f, v: (m, f[:39], v[:39]), r"F0 \[39\] and voicing \[39\].*another hop"),
        (
            lambda m, f, v: (m.index_fill(1, torch.tensor([3]), math.nan), f, v),
            "16 values of the mel",
        ),
        (
            lambda m, f, v: (m, f.index_fill(0, torch.tensor([3]), math.inf), v),
            "1 values of the F0",
        ),
        (lambda m, f, v: (m * 8.7, f, v), "Is it in dB"),
        (lambda m, f, v: (m.exp() * 1e4, f, v), "not logarithmic"),
    ],
)
def test_what_cannot_be_rendered_is_explained(change: Any, message: str) -> None:
    with pytest.raises(UserErrors, match=message):
        render_mel(tiny_vocoder(), *change(*sung(40)), SPEC)
    with pytest.raises(
        UserErrors, match="mel_bins=128 and hop_samples=512, the vocoder 16 and 512"
    ):
        render_mel(tiny_vocoder(), *sung(40), AudioSpec())
