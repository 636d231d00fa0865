"""Extractors with downloaded weights, rebuilt on another machine than that of the training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints.weights_server import CONTENT, SHA256, serving
from svc.audio.spec import AudioSpec
from svc.checkpoints import registry
from svc.checkpoints.facts import CheckpointFacts
from svc.checkpoints.pinning import file_sha256
from svc.checkpoints.weights import weights_file
from svc.errors import UserError
from svc.features.content.mfcc import MfccContent
from svc.features.pitch.parselmouth import ParselmouthPitch
from svc.inference.extractors import build_extractors

TRAINED_WITH = {"content": {"weights_sha256": SHA256}}


class RegisteredContent(MfccContent):
    """An encoder whose weights the registry names."""

    __module__ = "svc.features.content.mfcc"

    def __init__(self, model: str | None = None, device: str = "cpu", offline: bool = True) -> None:
        super().__init__()
        self.file = weights_file("voice", model, offline=offline)
        self.device = device

    def identity(self) -> dict[str, str]:
        return {"weights_sha256": file_sha256(self.file)}


class VotingPitch(ParselmouthPitch):
    """A tracker made of others."""

    __module__ = "svc.features.pitch.parselmouth"

    def __init__(self, trackers: list[Any]) -> None:
        super().__init__()
        self.trackers = trackers


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with an empty checkpoints folder, and a server that has the weights."""
    monkeypatch.setattr(
        "svc.features.content.mfcc.RegisteredContent", RegisteredContent, raising=False
    )
    monkeypatch.setattr("svc.features.pitch.parselmouth.VotingPitch", VotingPitch, raising=False)
    monkeypatch.setenv("SVC_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "SVC_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        monkeypatch.setattr(registry, "entries", lambda: {"voice": server.weights()})
        yield


def facts(model: str | None, pitch: dict[str, Any] | None = None) -> CheckpointFacts:
    """Of a model that was trained offline, with weights that lay in `model`."""
    return CheckpointFacts(
        config={
            "content": {
                "_target_": "svc.features.content.mfcc.RegisteredContent",
                "model": model,
                "device": "cuda",
                "offline": True,
            },
            "pitch": pitch or {"_target_": "svc.features.pitch.parselmouth.ParselmouthPitch"},
            "energy": {"_target_": "svc.features.energy.rms.RmsEnergy"},
        },
        audio=AudioSpec(),
        features=TRAINED_WITH,
        feature_fingerprint="0",
        speakers=["anna"],
        content_channels=8,
    )


@pytest.mark.parametrize("model", [None, "/home/somebody/elsewhere/voice-model.pt"])
def test_weights_are_had_from_the_registry_again(model: str | None, tmp_path: Path) -> None:
    content = build_extractors(facts(model), torch.device("cpu")).content
    assert isinstance(content, RegisteredContent)
    assert content.file == (tmp_path / "checkpoints" / "voice-model.pt").resolve()
    assert content.device == "cpu"


def test_weights_where_they_were_stay_where_they_are(tmp_path: Path) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(CONTENT)
    content = build_extractors(facts(str(own)), torch.device("cpu")).content
    assert isinstance(content, RegisteredContent)
    assert content.file == own.resolve()


def test_a_file_may_be_named_instead(tmp_path: Path) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(CONTENT)
    content = build_extractors(facts(None), torch.device("cpu"), str(own)).content
    assert isinstance(content, RegisteredContent)
    assert content.file == own.resolve()
    own.write_bytes(b"others")
    with pytest.raises(UserError, match=f"was trained with {SHA256}.*content_model="):
        build_extractors(facts(None), torch.device("cpu"), str(own))
    with pytest.raises(UserError, match=r"not in \./no\.pt.*content_model=FOLDER \(or FILE\)"):
        build_extractors(facts(None), torch.device("cpu"), "./no.pt")


def test_offline_the_place_and_the_setting_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVC_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        build_extractors(facts(None), torch.device("cpu"))
    for part in ("voice-model.pt", str(tmp_path / "checkpoints"), "content_model="):
        assert part in str(caught.value)


def test_parts_inside_a_part_are_for_this_machine_too() -> None:
    inner = facts("/elsewhere/voice-model.pt").config["content"]
    voting = {"_target_": "svc.features.pitch.parselmouth.VotingPitch", "trackers": [inner, inner]}
    pitch = build_extractors(facts(None, voting), torch.device("cpu")).pitch
    assert isinstance(pitch, VotingPitch)
    assert [tracker.device for tracker in pitch.trackers] == ["cpu", "cpu"]
