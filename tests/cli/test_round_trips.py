"""Every published layout, all the way: convert, train a step, export, infer; and straight from the
published file."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from checkpoints.published_material import fish_diffsvc, original_diffsvc
from checkpoints.published_spelling import published_discriminators, published_generator
from checkpoints.test_hifisinger_fish_layout import published as published_singer
from checkpoints.test_hifisinger_fish_layout import singer
from command_line import Terminal
from store_material import write_voice
from svc.audio.io import read_audio
from svc.checkpoints.model_file import read_model_file
from svc.features.content.mfcc import MfccContent
from svc.models.discriminators import Discriminators
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.period_discriminator import MultiPeriodDiscriminator
from svc.models.scale_discriminator import MultiScaleDiscriminator

CONTENT = MfccContent().channels
SHORT = (
    *("content=mfcc", "audio=openvpi", "trainer=cpu", "debug=fast", "preparation.valid_files=0"),
    *("data.crop_frames=16", "callbacks.checkpoints.every_steps=1", "~callbacks.samples"),
    "optim.lr=1e-4",
)


def judges() -> dict[str, Tensor]:
    torch.manual_seed(5)
    return published_discriminators(
        Discriminators(
            MultiPeriodDiscriminator((3, 5, 7, 11, 17, 23, 37), channels=(2, 2)),
            MultiScaleDiscriminator(scales=3, width=1 / 32),
        )
    )


def hifisinger() -> dict[str, Tensor]:
    """Hop 512 and openvpi's framing; judges of a few weights."""
    return published_singer(singer(content=CONTENT)) | judges()


def vocoder() -> dict[str, Tensor]:
    torch.manual_seed(4)
    made = NsfHifiGan(initial_channels=32, resblock_kernels=(3,), resblock_dilations=((1, 3, 5),))
    named = published_generator(made)
    return {f"generator.{name}": weight for name, weight in named.items()} | judges()


def diffsvc() -> dict[str, Tensor]:
    return fish_diffsvc(content=CONTENT, mel_bins=128)


def original() -> dict[str, Tensor]:
    """Its content is not projected."""
    return original_diffsvc(mel_bins=128, hidden=CONTENT)


LAYOUTS: dict[str, tuple[Callable[[], dict[str, Tensor]], str, str]] = {
    "hifisinger_fish": (hifisinger, "finetune_hifisinger", "arch.adversarial.start_step=0"),
    "diffsvc_fish": (diffsvc, "finetune_diffsvc", "sampler.steps=2"),
    "diffsvc_original": (original, "finetune_diffsvc", "sampler.steps=2"),
    "nsf_hifigan": (vocoder, "finetune_vocoder", "arch.adversarial.start_step=0"),
}
"""Weights, the experiment that trains on from them, and a setting of it."""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convert_train_export_infer(terminal: Terminal, layout: str) -> None:
    weights, experiment, setting = LAYOUTS[layout]
    folder = terminal.folder
    torch.save({"state_dict": weights()}, folder / "published.ckpt")
    content = () if layout == "nsf_hifigan" else ("options.content=mfcc",)
    terminal("svc-convert-checkpoint", "input=published.ckpt", "output=ours.safetensors", *content)
    converted = read_model_file(folder / "ours.safetensors")
    assert bool(converted.discriminator) == ("diffsvc" not in layout)

    write_voice(folder / "voices" / "newcomer" / "a.wav", 3.0, 1)
    write_voice(folder / "voices" / "newcomer" / "b.wav", 3.0, 2)
    listening = SHORT if layout != "nsf_hifigan" else SHORT[1:]
    terminal(
        *("svc-train", f"experiment={experiment}", "pretrained=ours.safetensors"),
        *("dataset.path=voices", "hydra.run.dir=run", setting, *listening),
    )
    learnt = read_model_file(folder / "run" / "checkpoints" / "last.ckpt")
    assert learnt.generator.keys() == converted.generator.keys()
    assert learnt.facts.parents[-1]["file"] == "ours.safetensors"
    assert learnt.facts.parents[0]["kind"] == layout
    moved = [n for n, w in converted.generator.items() if not torch.equal(learnt.generator[n], w)]
    assert len(moved) > len(converted.generator) // 2
    far = max(
        float((learnt.generator[n] - converted.generator[n]).abs().max())
        for n in moved
        if learnt.generator[n].shape == converted.generator[n].shape
    )
    assert far < 0.01, "two steps, not a new start"

    terminal("svc-export", "checkpoint=run", "output=mine.safetensors", "precision=fp16")
    tone = 0.2 * torch.sin(2 * math.pi * 220 * torch.arange(44_100) / 44_100)
    soundfile.write(folder / "song.wav", tone.numpy(), 44_100)
    if layout == "nsf_hifigan":
        read_model_file(folder / "mine.safetensors")
        return
    terminal("svc-infer", "checkpoint=mine.safetensors", "input=song.wav", "output=sung.wav")
    sung = read_audio(folder / "sung.wav")
    assert len(sung) == 44_100
    assert bool(torch.isfinite(sung).all())


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "nsf_hifigan"])
def test_training_goes_on_straight_from_the_published_file(terminal: Terminal, layout: str) -> None:
    """As long as the encoder is what the layout assumes; here it is not, and that is said."""
    weights, experiment, _ = LAYOUTS[layout]
    torch.save({"state_dict": weights()}, terminal.folder / "published.ckpt")
    write_voice(terminal.folder / "voices" / "newcomer" / "a.wav", 3.0, 1)
    said = terminal.refused(
        *("svc-train", f"experiment={experiment}", "pretrained=published.ckpt"),
        *("dataset.path=voices", "hydra.run.dir=run", *SHORT),
    )
    assert "pretrained=" in said
    assert "content: it was trained with HubertContent" in said


def test_a_published_vocoder_is_trained_on_and_renders(terminal: Terminal) -> None:
    torch.save({"state_dict": vocoder()}, terminal.folder / "published.ckpt")
    write_voice(terminal.folder / "voices" / "newcomer" / "a.wav", 3.0, 1)
    write_voice(terminal.folder / "voices" / "newcomer" / "b.wav", 3.0, 2)
    terminal(
        *("svc-train", "experiment=finetune_vocoder", "pretrained=published.ckpt"),
        *("dataset.path=voices", "hydra.run.dir=run", *SHORT[1:]),
    )
    learnt = read_model_file(Path(terminal.folder / "run" / "checkpoints" / "last.ckpt"))
    assert [parent["kind"] for parent in learnt.facts.parents] == ["nsf_hifigan"]
    assert learnt.discriminator
