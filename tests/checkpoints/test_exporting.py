"""Models on their way to others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from svc.checkpoints.exporting import export_model, output_path, without_speakers
from svc.checkpoints.layouts.base import KeyReport
from svc.checkpoints.model_file import ModelFile, read_model_file
from svc.checkpoints.slim_file import read_slim
from svc.errors import UserError
from svc.hashing import file_sha256
from svc.inference.converter import Converter
from tiny_checkpoint import checkpoint

__all__ = ["checkpoint"]
SPEAKERS = "conditioner.speaker.weight"


@pytest.fixture
def model(checkpoint: Callable[..., Path]) -> ModelFile:
    return read_model_file(checkpoint("hifisinger", speakers=("anna", "bert", "carl")))


def test_a_voice_is_gone_and_the_others_stay(model: ModelFile, tmp_path: Path) -> None:
    """Its row is zero, its name is gone; to the others nothing has happened."""
    before = dict(model.generator)
    facts, weights = without_speakers(model.facts, model.generator, ["bert"])
    assert facts.speakers == ["anna", "", "carl"]
    assert not weights[SPEAKERS][1].any()
    assert weights[SPEAKERS][[0, 2]].equal(before[SPEAKERS][[0, 2]])
    assert all(weights[name].equal(before[name]) for name in before if name != SPEAKERS)
    assert model.generator[SPEAKERS].equal(before[SPEAKERS])  # the original is left alone
    assert before[SPEAKERS][1].any()

    path = tmp_path / "fewer.safetensors"
    exported = export_model(model, path, remove_speakers=["bert"])
    assert exported.facts.named_speakers == ["anna", "carl"]
    assert b"bert" not in path.read_bytes()
    old, new = (Converter.from_checkpoint(p, device="cpu") for p in (model.path, path))
    sine = 0.1 * torch.sin(2 * torch.pi * 220 / 44100 * torch.arange(8192))
    for voice in ("carl", "anna:0.5,carl:0.5"):
        for way in ("linear", "spherical"):
            one, other = (
                c.convert(sine, 44100, speaker=voice, speaker_interpolation=way)  # type: ignore[arg-type]
                for c in (old, new)
            )
            assert one.equal(other)
    for name in ("bert", ""):
        with pytest.raises(UserError) as error:
            new.convert(sine, 44100, speaker=name)
        assert "anna" in str(error.value)
    with pytest.raises(UserError, match="knows 2: choose one of anna, carl"):
        new.convert(sine, 44100)

    again = export_model(
        read_model_file(path), tmp_path / "one.safetensors", remove_speakers=["anna"]
    )
    only = Converter.from_checkpoint(again.path, device="cpu")
    assert only.convert(sine, 44100).equal(old.convert(sine, 44100, speaker="carl"))


def test_voices_that_cannot_be_removed(model: ModelFile) -> None:
    with pytest.raises(UserError) as error:
        without_speakers(model.facts, model.generator, ["bret", "dora", "anna"])
    assert "knows anna, bert, carl" in str(error.value)
    assert "bret is not there. Did you mean bert?" in str(error.value)
    assert "dora is not there." in str(error.value)
    with pytest.raises(UserError, match="would leave none"):
        without_speakers(model.facts, model.generator, ["carl", "bert", "anna"])
    fewer, weights = without_speakers(model.facts, model.generator, ["bert"])
    with pytest.raises(UserError, match="bert is not there"):
        without_speakers(fewer, weights, ["bert"])
    with pytest.raises(UserError, match=" is not there"):
        without_speakers(fewer, weights, [""])
    with pytest.raises(UserError, match="would leave none"):
        without_speakers(fewer, weights, ["anna", "carl"])


def test_a_vocoder_has_no_voices(checkpoint: Callable[..., Path]) -> None:
    vocoder = read_model_file(checkpoint("nsf_hifigan"))
    with pytest.raises(UserError, match="no speakers"):
        without_speakers(replace(vocoder.facts, speakers=[]), vocoder.generator, ["anna"])


def test_licence_and_origin_travel_along(model: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert export_model(model, path).facts.licence is None
    assert export_model(model, path, licence="MIT").facts.licence == "MIT"
    kept = export_model(read_model_file(path), tmp_path / "b.safetensors").facts
    assert (kept.licence, kept.parents) == ("MIT", [])

    grandparent = {"file": "x", "sha256": "0", "kind": "svc", "licence": None}
    facts = replace(model.facts, parents=[grandparent])
    foreign = replace(model, facts=facts, report=KeyReport(()), kind="diffsvc_fish")
    parents = read_slim(export_model(foreign, path).path).facts.parents
    assert parents == [
        grandparent,
        {
            "file": model.path.name,
            "sha256": file_sha256(model.path),
            "kind": "diffsvc_fish",
            "licence": None,
        },
    ]


def test_discriminators_go_along_on_request(model: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="holds none"):
        export_model(model, path, discriminators=True)
    judged = replace(model, discriminator={"a": torch.ones(2)})
    assert not export_model(judged, path).has_discriminator
    assert not read_slim(path).discriminator
    assert export_model(judged, path, discriminators=True).has_discriminator
    assert read_slim(path).discriminator["a"].tolist() == [1, 1]


def test_what_cannot_be_met_writes_nothing(model: ModelFile, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with pytest.raises(UserError, match="precision=fp8: choose one of fp32, fp16"):
        export_model(model, folder / "a.safetensors", precision="fp8")
    assert not folder.exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        export_model(model, tmp_path / "file" / "a.safetensors")


def test_where_an_export_goes(tmp_path: Path) -> None:
    source = tmp_path / "checkpoints" / "best.ckpt"
    source.parent.mkdir()
    source.touch()
    beside = source.with_name("best.safetensors")
    assert output_path(source, None, overwrite=False) == beside
    assert output_path(source, tmp_path, overwrite=False) == tmp_path / "best.safetensors"
    new = tmp_path / "new" / "a.safetensors"
    assert output_path(source, new, overwrite=False) == new
    beside.touch()
    with pytest.raises(UserError, match="overwrite=true"):
        output_path(source, None, overwrite=False)
    assert output_path(source, None, overwrite=True) == beside
    for other in (tmp_path / "a.ckpt", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"ends in \.safetensors"):
            output_path(source, other, overwrite=True)
    for itself in (None, source.parent, beside):
        with pytest.raises(UserError, match="itself"):
            output_path(beside, itself, overwrite=True)
