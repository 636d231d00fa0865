"""Conversion with models that sample their mels, and refinement of other models' mels."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from svc.diffusion.samplers.ddim import Ddim
from svc.diffusion.samplers.euler import Euler
from svc.errors import UserError
from svc.inference.converter import Converter
from tiny_checkpoint import SAMPLERS, SPEC

AUDIO = 0.1 * torch.sin(torch.arange(3 * 44_100) * 0.03)


def converted(path: Path, **options: Any) -> torch.Tensor:
    audio = Converter.from_checkpoint(path, device="cpu", **options).convert(
        AUDIO, 44_100, speaker="anna"
    )
    assert audio.shape == AUDIO.shape
    assert audio.isfinite().all()
    return audio


@pytest.mark.parametrize("arch", SAMPLERS)
def test_the_seed_decides(checkpoint: Callable[..., Path], arch: str) -> None:
    path = checkpoint(arch)
    first = converted(path, seed=1)
    assert torch.equal(converted(path, seed=1), first)
    assert not torch.equal(converted(path, seed=2), first)


@pytest.mark.parametrize("arch", SAMPLERS)
def test_sampler_and_steps_of_the_training_can_be_replaced(
    checkpoint: Callable[..., Path], arch: str
) -> None:
    path = checkpoint(arch)
    trained = converted(path)
    same = Ddim(steps=3) if arch == "diffsvc" else Euler(steps=2)
    assert torch.equal(converted(path, sampler=same), trained)
    more = Ddim(steps=5) if arch == "diffsvc" else Euler(steps=5)
    assert not torch.equal(converted(path, sampler=more), trained)
    assert torch.equal(converted(path, steps=5), converted(path, sampler=more))


def test_chunks_agree_about_what_they_share(checkpoint: Callable[..., Path]) -> None:
    """Pieces of a long recording start from the same noise as the whole."""
    path = checkpoint("diffsvc")
    whole, pieces = (Converter.from_checkpoint(path, device="cpu") for _ in range(2))
    pieces.max_chunk_s = 1.4
    one, several = (c.convert(AUDIO, 44_100, speaker="anna") for c in (whole, pieces))
    error = (one - several)[4096:-4096].square().mean() / one.square().mean()
    assert float(error) < 1e-2


def test_another_vocoder_renders(checkpoint: Callable[..., Path]) -> None:
    path, vocoder = checkpoint("diffsvc"), checkpoint("nsf_hifigan")
    assert not torch.equal(converted(path), converted(path, vocoder=vocoder))
    decoder = checkpoint("hifisinger")
    assert not torch.equal(converted(path), converted(path, vocoder=decoder))


def test_a_vocoder_of_other_mels_is_refused_before_any_work(
    checkpoint: Callable[..., Path],
) -> None:
    vocoder = checkpoint("nsf_hifigan", audio=replace(SPEC, mel_min_hz=40.0, mel_max_hz=16_000.0))
    with pytest.raises(UserError, match=r"mel_min_hz is 40.0, not 0.0; mel_max_hz is 16000"):
        Converter.from_checkpoint(checkpoint("diffsvc"), device="cpu", vocoder=vocoder)


def test_a_vocoder_does_not_convert(checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="does not convert"):
        Converter.from_checkpoint(checkpoint("nsf_hifigan"), device="cpu")


def test_a_singer_without_a_mel_converts_with_its_own_decoder_alone(
    checkpoint: Callable[..., Path],
) -> None:
    path = checkpoint("without_mel")
    whole, pieces = (Converter.from_checkpoint(path, device="cpu") for _ in range(2))
    pieces.max_chunk_s = 1.4
    one, several = (c.convert(AUDIO, 44_100, speaker="anna") for c in (whole, pieces))
    assert one.std() > 0.01
    torch.testing.assert_close(several, one, atol=1e-3, rtol=0)
    vocoder, refiner = checkpoint("nsf_hifigan"), checkpoint("diffsvc")
    with pytest.raises(UserError, match="only its own decoder can render; leave vocoder= out"):
        Converter.from_checkpoint(path, device="cpu", vocoder=vocoder)
    with pytest.raises(UserError, match="so that there is none to refine"):
        Converter.from_checkpoint(path, device="cpu", refine_checkpoint=refiner)
    with pytest.raises(UserError, match="takes hidden features and no mel"):
        Converter.from_checkpoint(refiner, device="cpu", vocoder=path)


@pytest.mark.parametrize(("arch", "sampler"), [("diffsvc", Euler(2)), ("flowsvc", Ddim(2))])
def test_sampler_of_another_kind_is_refused(
    checkpoint: Callable[..., Path], arch: str, sampler: Any
) -> None:
    with pytest.raises(UserError, match="take sampler="):
        Converter.from_checkpoint(checkpoint(arch), device="cpu", sampler=sampler)


@pytest.mark.parametrize("option", [{"sampler": Ddim(2)}, {"steps": 3}])
def test_one_pass_takes_no_sampler(checkpoint: Callable[..., Path], option: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="has no sampler"):
        Converter.from_checkpoint(checkpoint("hifisinger"), device="cpu", **option)


@pytest.mark.parametrize("first", ["hifisinger", "flowsvc"])
def test_refinement_changes_as_much_as_it_is_told_to(
    checkpoint: Callable[..., Path], first: str
) -> None:
    path, refiner = checkpoint(first), checkpoint("diffsvc")
    unrefined = converted(path)
    none, some, all_of_it = (
        converted(path, refine_checkpoint=refiner, refine_steps=steps) for steps in (0, 100, 1000)
    )
    difference = {
        name: float((audio - unrefined).square().mean())
        for name, audio in (("none", none), ("some", some), ("all", all_of_it))
    }
    # Another draw of the sine source's noise is all that zero steps may change.
    assert difference["none"] < 1e-6
    assert difference["none"] < difference["some"] < difference["all"]


def test_the_refiner_hears_with_its_own_extractors(checkpoint: Callable[..., Path]) -> None:
    path = checkpoint("hifisinger")
    same = checkpoint("diffsvc", "same")
    other = checkpoint("diffsvc", "other", fingerprint="1", energy_window_hops=16)
    shared, own = (
        Converter.from_checkpoint(path, device="cpu", refine_checkpoint=refiner).refinement
        for refiner in (same, other)
    )
    assert shared is not None
    assert shared.extractors is None
    assert own is not None
    assert own.extractors is not None
    assert own.extractors.energy.window_hops == 16  # type: ignore[attr-defined]
    heard = [converted(path, refine_checkpoint=refiner) for refiner in (same, other)]
    assert not torch.equal(*heard)


@pytest.mark.parametrize(
    ("arch", "options", "reason"),
    [
        ("hifisinger", {}, "must be a DiffSVC model"),
        ("diffsvc", {"audio": replace(SPEC, mel_max_hz=16_000.0)}, "another definition"),
    ],
)
def test_what_cannot_refine_is_refused(
    checkpoint: Callable[..., Path], arch: str, options: dict[str, Any], reason: str
) -> None:
    first = checkpoint("hifisinger", "first")
    refiner = checkpoint(arch, "refiner", **options)
    with pytest.raises(UserError, match=reason):
        Converter.from_checkpoint(first, device="cpu", refine_checkpoint=refiner)


def test_refining_out_of_range_or_an_unknown_voice(checkpoint: Callable[..., Path]) -> None:
    first, refiner = checkpoint("hifisinger"), checkpoint("diffsvc", speakers=("bert", "carl"))
    with pytest.raises(UserError, match=r"refine\.steps=1001 must lie between 0 and the 1000"):
        Converter.from_checkpoint(first, device="cpu", refine_checkpoint=refiner, refine_steps=1001)
    converter = Converter.from_checkpoint(first, device="cpu", refine_checkpoint=refiner)
    with pytest.raises(UserError, match="anna is not in the refining model; it knows: bert, carl"):
        converter.convert(AUDIO, 44_100, speaker="anna")


def test_facts_survive(checkpoint: Callable[..., Path]) -> None:
    converter = Converter.from_checkpoint(checkpoint("flowsvc"), device="cpu")
    assert asdict(converter.spec) == asdict(SPEC)
    assert converter.speakers == ["anna", "bert"]
