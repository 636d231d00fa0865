"""`svc-train pretrained=…`: what goes on from a trained model, and what is refused."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from command_line import Terminal
from store_material import write_voice
from svc.checkpoints.model_file import read_model_file
from svc.hashing import file_sha256
from tiny_checkpoint import GENERATORS, VOCODER

TABLE = "conditioner.speaker.weight"
SMALL = (
    *("content=mfcc", "trainer=cpu", "debug=fast", "preparation.valid_files=0"),
    *("data.crop_frames=16", "callbacks.checkpoints.every_steps=1", "optim.weight_decay=0.1"),
    "~callbacks.samples",
)
SMALL_JUDGES = ("arch.discriminator.periods.channels=[2,2]", "~arch.discriminator.scales")


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Recordings of one singer that the model knows, and of one that is new."""
    for number, name in enumerate(("bert", "carl")):
        write_voice(tmp_path / "voices" / name / "song.wav", 3.5, number)
    return tmp_path / "voices"


def tuned(terminal: Terminal, name: str, pretrained: Path, run: str, *more: str) -> Path:
    """The checkpoint of a short fine-tuning by the experiment of that name."""
    words = (f"experiment=finetune_{name}", f"pretrained={pretrained}", "dataset.path=voices")
    terminal("svc-train", *words, f"hydra.run.dir={run}", *SMALL, *more)
    return Path(run) / "checkpoints" / "last.ckpt"


def state_of(path: Path) -> dict[str, Tensor]:
    """Trained and averaged weights, and those of the judges."""
    state: dict[str, Any] = torch.load(path, weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("arch", ["hifisinger", "diffsvc", "flowsvc"])
def test_a_voice_is_added_and_everything_else_stays_to_the_bit(
    arch: str, terminal: Terminal, voices: Path, checkpoint: Callable[..., Path]
) -> None:
    base = checkpoint(arch)
    before = read_model_file(base)
    # FlowSVC has no experiment of its own; DiffSVC's fits.
    experiment = "diffsvc" if arch == "flowsvc" else arch
    more = {"hifisinger": SMALL_JUDGES, "diffsvc": (), "flowsvc": ("arch=flowsvc",)}[arch]
    run = tuned(
        *(terminal, experiment, base, "run", *more, "licence='CC BY 4.0'"),
        *("finetune.speakers=add", "finetune.train=speakers"),
    )
    after = read_model_file(run)
    assert after.facts.speakers == ["anna", "bert", "carl"]
    assert after.facts.licence == "CC BY 4.0"
    parent = {"file": base.name, "sha256": file_sha256(base), "kind": "svc", "licence": None}
    assert after.facts.parents == [parent]
    assert after.facts.config["pretrained"] == base.name, "tells nobody where it lay"
    known, table = before.generator[TABLE], after.generator[TABLE]
    assert table[0].equal(known[0]), "no recordings of anna"
    assert not table[1].equal(known[1])
    assert not table[2].equal(known.mean(0))
    assert differing({**before.generator, TABLE: table}, after.generator) == set()


def test_a_whole_model_goes_on_with_its_judges_from_either_kind_of_file(
    terminal: Terminal, voices: Path, checkpoint: Callable[..., Path]
) -> None:
    first = tuned(terminal, "hifisinger", checkpoint("hifisinger"), "first", *SMALL_JUDGES)
    model = read_model_file(first)
    assert model.facts.speakers == ["bert", "carl"]
    assert len(differing(read_model_file(checkpoint("hifisinger")).generator, model.generator)) > 20
    terminal("svc-export", f"checkpoint={first}", "output=first.safetensors", "discriminators=true")
    # The shape of the judges comes from the file as well.
    going_on = [
        tuned(terminal, "hifisinger", path, run)
        for path, run in ((first, "second"), (Path("first.safetensors"), "third"))
    ]
    states = [state_of(path) for path in going_on]
    assert differing(*states) == set()
    judges = {name for name in states[0] if name.startswith("discriminator.")}
    assert {name.removeprefix("discriminator.") for name in judges} == model.discriminator.keys()
    moved = max(
        float((states[0][f"discriminator.{name}"] - weight).abs().max())
        for name, weight in model.discriminator.items()
    )
    assert 0 < moved < 1e-3, "two small steps from where they were"
    parents = [read_model_file(path).facts.parents for path in going_on]
    assert [parent["file"] for parent in parents[0]] == ["hifisinger.ckpt", "last.ckpt"]
    assert [parent["file"] for parent in parents[1]] == ["hifisinger.ckpt", "first.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "way",
    [
        ("finetune.freeze=[conditioner.*]",),
        ("finetune.speakers=add", "lora.rank=2"),
        ("finetune.speakers=add", "finetune.train=speakers"),
    ],
    ids=["frozen", "lora", "speakers"],
)
def test_it_resumes_to_the_bit_without_the_pretrained_file(
    way: tuple[str, ...], terminal: Terminal, voices: Path, checkpoint: Callable[..., Path]
) -> None:
    base = checkpoint("hifisinger")
    before = read_model_file(base)
    options = (*SMALL_JUDGES, *way)
    whole = tuned(terminal, "hifisinger", base, "whole", *options, "trainer.max_steps=3")
    half = tuned(terminal, "hifisinger", base, "half", *options)
    stopped = state_of(half)
    base.unlink()
    tuned(terminal, "hifisinger", base, "half", *options, "resume=half", "trainer.max_steps=3")
    assert differing(state_of(whole), state_of(half)) == set()
    assert differing(stopped, state_of(half))
    one, other = read_model_file(whole).facts, read_model_file(half).facts
    assert (one.speakers, one.parents) == (other.speakers, other.parents)
    assert one.parents[0]["file"] == base.name
    after = read_model_file(half).generator
    same = {TABLE: after[TABLE]} if "finetune.speakers=add" in way else {}
    changed = differing({**before.generator, **same}, after)
    if "freeze" in str(way):
        assert not any(name.startswith("conditioner.") for name in changed - {TABLE})
        assert any(name.startswith("decoder.") for name in changed)
    elif "lora.rank=2" in way:
        assert {name.partition(".")[0] for name in changed} == {"conditioner", "backbone"}
    else:
        assert changed == set()


def test_a_vocoder_goes_on(
    terminal: Terminal, voices: Path, checkpoint: Callable[..., Path]
) -> None:
    base = checkpoint("nsf_hifigan")
    run = tuned(terminal, "vocoder", base, "run", *SMALL_JUDGES, "finetune.freeze=['*bias']")
    before, after = read_model_file(base).generator, read_model_file(run).generator
    changed = differing(before, after)
    assert len(changed) > 10
    assert not any(name.endswith("bias") for name in changed)


def test_another_vocoder_takes_the_place_of_the_one_in_the_file(
    terminal: Terminal,
    voices: Path,
    checkpoint: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = checkpoint("diffsvc")
    monkeypatch.setitem(GENERATORS, "nsf_hifigan", {**VOCODER, "initial_channels": 24})
    vocoder = checkpoint("nsf_hifigan")
    after = read_model_file(tuned(terminal, "diffsvc", base, "run", f"vocoder_weights={vocoder}"))
    its = {
        name.removeprefix("vocoder."): weight
        for name, weight in after.generator.items()
        if name.startswith("vocoder.")
    }
    assert differing(read_model_file(vocoder).generator, its) == set()
    assert after.facts.config["arch"]["generator"]["vocoder"]["initial_channels"] == 24
    assert after.facts.parents[0]["file"] == base.name


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["experiment=finetune_hifisinger"], ["pretrained is not set"]),
        (["lora.rank=4"], ["lora.rank", "give pretrained=FILE"]),
        (
            ["arch=nsf_hifigan", "pretrained=MODEL", "vocoder_weights=MODEL"],
            ["pretrained and vocoder_weights both"],
        ),
        (["finetune.speakers=ad"], ["finetune.speakers=ad", "replace or add"]),
        (["pretrained=MODEL", "arch=diffsvc_tiny"], ["holds a HifiSinger", "a DiffSvc"]),
        (
            ["pretrained=MODEL", "audio=openvpi"],
            ["mel_max_hz 22050.0 in place of 16000.0", "give audio=default"],
        ),
        (["pretrained=MODEL", "content=hubert_soft"], ["MfccContent", "give content=mfcc"]),
        (["pretrained=MODEL", "pitch=rmvpe"], ["ParselmouthPitch", "give pitch=parselmouth"]),
        (["pretrained=nowhere.ckpt"], ["nowhere.ckpt"]),
        (["pretrained=voices/bert/song.wav"], ["song.wav"]),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    words: list[str],
    parts: list[str],
    terminal: Terminal,
    voices: Path,
    checkpoint: Callable[..., Path],
) -> None:
    model = str(checkpoint("hifisinger"))
    words = [word.replace("MODEL", model) for word in words]
    said = terminal.refused(
        "svc-train", "dataset.path=voices", "content=mfcc", "trainer=cpu", *words
    )
    assert all(part in said for part in parts), said
    assert not (terminal.folder / "data").exists()


def test_patterns_that_match_nothing_are_refused(
    terminal: Terminal, voices: Path, checkpoint: Callable[..., Path]
) -> None:
    said = terminal.refused(
        *("svc-train", f"pretrained={checkpoint('hifisinger')}", "dataset.path=voices", *SMALL),
        "finetune.freeze=[decodr.*]",
    )
    assert "decodr.*" in said
    assert "decoder.*" in said
