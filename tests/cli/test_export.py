"""`svc-export`, and conversion with what it writes."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from command_line import Terminal
from store_material import write_voice
from svc.audio.io import read_audio, write_audio
from svc.checkpoints.model_file import read_model_file
from svc.checkpoints.slim_file import read_slim

FORMAT_1 = Path(__file__).parents[1] / "checkpoints" / "files" / "training_format_1.ckpt"
SHORT = (
    *("content=mfcc", "trainer=cpu", "debug=fast", "preparation.valid_files=0"),
    *("data.crop_frames=16", "callbacks.checkpoints.every_steps=1", "~callbacks.samples"),
    "hydra.run.dir=run",
)
ARCHITECTURES = {
    "hifisinger": ("arch=hifisinger_tiny", "vocoder=nsf_hifigan_tiny"),
    "diffsvc": ("arch=diffsvc_tiny", "sampler.steps=3", "vocoder_weights=nsf_hifigan.ckpt"),
}


def write_song(terminal: Terminal) -> None:
    seconds = torch.arange(44_100) / 44_100
    write_audio(terminal.folder / "song.wav", 0.2 * torch.sin(2 * math.pi * 220 * seconds))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_is_exported_sings_as_the_checkpoint_did(
    terminal: Terminal, checkpoint: Callable[..., Path], arch: str
) -> None:
    """After two steps of training: in float32 to the bit, in float16 up to what is 60 dB softer."""
    checkpoint("nsf_hifigan")
    write_voice(terminal.folder / "voices" / "anna" / "a.wav", 3.0, 1)
    write_voice(terminal.folder / "voices" / "bert" / "a.wav", 3.0, 2)
    terminal("svc-train", *ARCHITECTURES[arch], "dataset.path=voices", *SHORT)
    said = terminal("svc-export", "checkpoint=run", "output=full.safetensors", "licence=MIT").out
    assert "speakers: anna, bert" in said
    assert "licence:  MIT" in said
    terminal("svc-export", "checkpoint=run", "output=half.safetensors", "precision=fp16")
    full, half = (terminal.folder / f"{name}.safetensors" for name in ("full", "half"))
    assert half.stat().st_size < 0.65 * full.stat().st_size
    assert str(terminal.folder).encode() not in full.read_bytes()  # where it was trained

    write_song(terminal)
    sung = {}
    for name, checkpoint in {"run": "run", "full": full, "half": half}.items():
        terminal(
            *("svc-infer", f"checkpoint={checkpoint}", "input=song.wav", f"output={name}.wav"),
            *("speaker=bert", "subtype=FLOAT"),
        )
        sung[name] = read_audio(terminal.folder / f"{name}.wav")
    assert torch.equal(sung["run"], sung["full"])
    difference = (sung["half"] - sung["run"]).square().mean() / sung["run"].square().mean()
    assert 0 < float(difference) < 1e-6


@pytest.mark.parametrize(
    ("singer", "second", "setting"),
    [("diffsvc", "nsf_hifigan", "vocoder"), ("hifisinger", "diffsvc", "refine.checkpoint")],
)
def test_an_exported_model_takes_part_as_its_checkpoint_does(
    terminal: Terminal, checkpoint: Callable[..., Path], singer: str, second: str, setting: str
) -> None:
    """A vocoder that it lends, or a refinement."""
    write_song(terminal)
    model, run = checkpoint(singer), checkpoint(second)
    terminal("svc-export", f"checkpoint={run}", "output=second.safetensors")
    sung = []
    for file in (run, "second.safetensors"):
        terminal(
            *("svc-infer", f"checkpoint={model}", "input=song.wav", "output=sung.wav"),
            *("speaker=anna", f"{setting}={file}"),
        )
        sung.append(read_audio(terminal.folder / "sung.wav"))
    assert torch.equal(*sung)


def test_a_voice_is_taken_out(terminal: Terminal, checkpoint: Callable[..., Path]) -> None:
    write_song(terminal)
    model = checkpoint("hifisinger", speakers=("anna", "bert", "carl"))
    said = terminal(
        "svc-export", f"checkpoint={model}", "output=fewer.safetensors", "remove_speakers=[bert]"
    ).out
    assert "speakers: anna, carl" in said
    convert = ["checkpoint=fewer.safetensors", "input=song.wav"]
    assert "it knows: anna, carl." in terminal.refused("svc-infer", *convert, "speaker=bert")
    assert "knows 2: choose one of anna, carl" in terminal.refused("svc-infer", *convert)
    terminal("svc-infer", *convert, "speaker=carl")


def test_an_export_lies_beside_its_checkpoint_and_replaces_nothing(
    terminal: Terminal, checkpoint: Callable[..., Path]
) -> None:
    (terminal.folder / "My run").mkdir()
    shutil.move(checkpoint("hifisinger"), terminal.folder / "My run" / "best.ckpt")
    terminal("svc-export", "checkpoint=My run")
    written = terminal.folder / "My run" / "best.safetensors"
    before = written.read_bytes()
    again = ["checkpoint=My run", "remove_speakers=anna"]
    assert "overwrite=true" in terminal.refused("svc-export", *again)
    assert written.read_bytes() == before
    terminal("svc-export", *again, "overwrite=true")
    assert read_slim(written).facts.speakers == ["", "bert"]
    assert "itself" in terminal.refused("svc-export", f"checkpoint={written}", "overwrite=true")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["checkpoint=none.ckpt"], "There is no checkpoint none.ckpt"),
        (["checkpoint=."], "folder without a checkpoint"),
        (["checkpoint=text.ckpt"], "text.ckpt"),
        (["precision=fp8"], "precision=fp8: choose one of fp32, fp16"),
        (["discriminators=true"], "holds none"),
        (["output=a.ckpt"], "ends in .safetensors"),
        (["remove_speakers=[bret]"], "Did you mean bert?"),
        (["remove_speakers=[anna,bert]"], "would leave none"),
        (["precison=fp16"], "did you mean precision?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_exported_is_named_and_writes_nothing(
    terminal: Terminal, checkpoint: Callable[..., Path], arguments: list[str], told: str
) -> None:
    model = checkpoint("hifisinger").rename(terminal.folder.parent / "model.ckpt")
    if not arguments[0].startswith("checkpoint="):
        arguments = [f"checkpoint={model}", *arguments]
    if "checkpoint=text.ckpt" in arguments:
        (terminal.folder / "text.ckpt").write_text("seed: 0\n")
    before = sorted(terminal.folder.iterdir())
    assert told in terminal.refused("svc-export", *arguments)
    assert sorted(terminal.folder.iterdir()) == before
    assert not model.with_suffix(".safetensors").exists()


def test_training_goes_on_from_the_file_of_version_1(terminal: Terminal) -> None:
    write_voice(terminal.folder / "voices" / "carl" / "a.wav", 3.0, 1)
    terminal(
        *("svc-train", "experiment=finetune_hifisinger", f"pretrained={FORMAT_1}"),
        *("dataset.path=voices", "content.coefficients=8", "finetune.speakers=add", *SHORT),
    )
    model = read_model_file(terminal.folder / "run" / "checkpoints" / "last.ckpt")
    assert model.facts.speakers == ["alma_alto", "bruno_bass", "carl"]
    assert model.facts.parents[-1]["file"] == FORMAT_1.name
    assert model.discriminator.keys() == read_model_file(FORMAT_1).discriminator.keys()
