"""Facts of every version, and the file that version 1 wrote, for as long as there is svc."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import FORMAT_VERSION, REMOVED_SPEAKER, CheckpointFacts, parent_of
from svc.checkpoints.model_file import read_model_file
from svc.errors import UserError
from svc.inference.converter import Converter
from svc.inference.loading import load_model
from svc.models.conditioner import Conditioning
from svc.models.hifisinger import HifiSinger

FORMAT_1 = Path(__file__).parent / "files" / "training_format_1.ckpt"
FACTS = CheckpointFacts(
    config={"arch": {"channels": [1, 2]}, "resume": None, "lr": 1e-4},
    audio=AudioSpec(mel_bins=20, mel_min_hz=40.0),
    features={"content": {"coefficients": 13}},
    feature_fingerprint="abc",
    speakers=["Ada", REMOVED_SPEAKER, "Jürgen"],
    content_channels=13,
    licence="CC-BY-4.0",
    parents=[{"file": "a.ckpt", "sha256": "0" * 64, "kind": "svc", "licence": None}],
)


def test_facts_come_back() -> None:
    plain = FACTS.to_plain()
    assert CheckpointFacts.from_plain(plain) == FACTS
    assert FACTS.named_speakers == ["Ada", "Jürgen"]
    assert FACTS.run_time_arguments({"conditioner": {}}) == {
        "conditioner": {"content_channels": 13, "speakers": 3}
    }


def plain_of_version_1() -> dict[str, Any]:
    plain = FACTS.to_plain() | {"format_version": 1, "svc_version": "0.1.0"}
    del plain["licence"], plain["parents"]
    return plain


def test_version_1_had_neither_licence_nor_parents() -> None:
    plain = plain_of_version_1()
    facts = CheckpointFacts.from_plain(plain)
    assert facts == replace(FACTS, licence=None, parents=[], svc_version="0.1.0")
    assert facts.format_version == FORMAT_VERSION
    assert "licence" not in plain  # what was given is left alone


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, -1, None, "2", 2.0, True])
def test_other_versions_are_refused(version: Any) -> None:
    plain = FACTS.to_plain() | {"format_version": version, "svc_version": "9.9"}
    with pytest.raises(UserError, match=r"svc 9\.9 in format") as error:
        CheckpointFacts.from_plain(plain)
    assert f"formats up to {FORMAT_VERSION}" in str(error.value)


def test_what_a_dataset_was_like_may_be_unknown() -> None:
    plain = FACTS.to_plain()
    del plain["dataset"]
    assert CheckpointFacts.from_plain(plain) == FACTS
    of_dataset = {"fingerprint": "0" * 16, "slices": 3}
    assert CheckpointFacts.from_plain({**plain, "dataset": of_dataset}).dataset == of_dataset
    with pytest.raises(UserError, match="dataset"):
        CheckpointFacts.from_plain({**plain, "dataset": "demo"})


@pytest.mark.parametrize("name", sorted(asdict(FACTS).keys() - {"format_version", "dataset"}))
def test_a_lost_fact_is_named(name: str) -> None:
    plain = FACTS.to_plain()
    del plain[name]
    with pytest.raises(UserError, match=name):
        CheckpointFacts.from_plain(plain)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("speakers", "Ada"),
        ("speakers", ["Ada", 3]),
        ("config", []),
        ("content_channels", "13"),
        ("parents", ["a.ckpt"]),
        ("licence", 7),
        ("audio", {"rate": 1}),
        ("audio", None),
    ],
)
def test_a_fact_of_another_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=name if name != "audio" else "lacks facts"):
        CheckpointFacts.from_plain(FACTS.to_plain() | {name: value})


def test_a_parent_is_told_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"abc")
    assert parent_of(tmp_path / "a.ckpt", "svc", "MIT") == {
        "file": "a.ckpt",
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "kind": "svc",
        "licence": "MIT",
    }


def test_the_file_of_version_1_predicts_what_it_predicted() -> None:
    loaded = load_model(FORMAT_1)
    network = loaded.network
    assert isinstance(network, HifiSinger)
    assert loaded.facts.speakers == ["alma_alto", "bruno_bass"]
    frames, rng = 12, torch.Generator().manual_seed(0)
    content = torch.randn(1, loaded.facts.content_channels, frames, generator=rng)
    conditioning = Conditioning(
        content=content,
        f0_hz=torch.linspace(100, 300, frames)[None],
        voiced=torch.ones(1, frames, dtype=torch.bool),
        energy=torch.full((1, frames), 0.05),
        speaker=torch.tensor([1]),
        key_shift_semitones=torch.zeros(1),
    )
    with torch.inference_mode():
        mel = network.eval().predict_mel(conditioning)
    first = [-5.581505298614502, -5.5942792892456055, -5.403414249420166, -5.071518421173096]
    assert mel[0, :4, 0].tolist() == pytest.approx(first, abs=1e-4)
    assert float(mel.double().sum()) == pytest.approx(-8438.079402923584, abs=0.05)


def test_the_file_of_version_1_converts() -> None:
    converter = Converter.from_checkpoint(FORMAT_1, device="cpu")
    sine = 0.1 * torch.sin(2 * torch.pi * 220 / 44100 * torch.arange(22050))
    converted = converter.convert(sine, 44100, speaker="alma_alto")
    assert converted.shape == sine.shape
    assert float(converted.square().mean().sqrt()) > 0.01


def test_the_file_of_version_1_holds_what_training_goes_on_from() -> None:
    model = read_model_file(FORMAT_1)
    node = model.facts.config["arch"]["discriminator"]
    assert node["_target_"] == "svc.models.discriminators.Discriminators"
    assert any(name.startswith("periods.") for name in model.discriminator)
