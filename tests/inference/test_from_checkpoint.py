"""A converter from nothing but a checkpoint file."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import CheckpointFacts
from svc.checkpoints.training_checkpoint import TrainingProgress, write_svc_state
from svc.errors import UserError
from svc.features.content.mfcc import MfccContent
from svc.features.pitch.parselmouth import ParselmouthPitch
from svc.inference.converter import Converter
from svc.models.hifisinger import HifiSinger
from tiny_checkpoint import VOCODER

CONFIG: dict[str, Any] = {
    "arch": {
        "_target_": "svc.training.hifisinger.HifiSingerModule",
        "generator": {
            "_target_": "svc.models.hifisinger.HifiSinger",
            "conditioner": {"_target_": "svc.models.conditioner.Conditioner", "channels": 8},
            "backbone": {
                "_target_": "svc.models.wavenet.WaveNet",
                "in_channels": 8,
                "condition_channels": 8,
                "channels": 8,
                "layers": 4,
                "dilation_cycle": 4,
                "out_channels": 8,
            },
            "decoder": VOCODER,
        },
    },
    "content": {"_target_": "svc.features.content.mfcc.MfccContent"},
    "pitch": {
        "_target_": "svc.features.pitch.parselmouth.ParselmouthPitch",
        "f0_min_hz": 60.0,
    },
    "energy": {"_target_": "svc.features.energy.rms.RmsEnergy"},
}


@pytest.fixture
def write_checkpoint(tmp_path: Path, make_generator: Callable[[], HifiSinger]):  # type: ignore[no-untyped-def]
    def write(
        config: dict[str, Any] = CONFIG,
        features: dict[str, Any] | None = None,
        **extra: torch.Tensor,
    ) -> Path:
        generator = make_generator()
        facts = CheckpointFacts(
            config=config,
            audio=AudioSpec(),
            features=features or {},
            feature_fingerprint="0",
            speakers=["anna", "bert"],
            content_channels=generator.conditioner.content_channels,
        )
        weights = {f"generator.{k}": v for k, v in generator.state_dict().items()} | extra
        checkpoint: dict[str, Any] = {"state_dict": weights}
        write_svc_state(checkpoint, facts, TrainingProgress(), {})
        torch.save(checkpoint, tmp_path / "model.ckpt")
        return tmp_path / "model.ckpt"

    return write


def test_is_the_model_that_was_saved(  # type: ignore[no-untyped-def]
    write_checkpoint, make_converter: Callable[..., Converter]
) -> None:
    audio = 0.1 * torch.sin(torch.arange(20_000) * 0.03)
    loaded = Converter.from_checkpoint(write_checkpoint(), device="cpu")
    assert loaded.speakers == ["anna", "bert"]
    assert loaded.extractors.pitch.f0_min_hz == 60.0
    wanted = make_converter()
    wanted.extractors = loaded.extractors
    assert torch.equal(
        loaded.convert(audio, 44_100, speaker="bert"),
        wanted.convert(audio, 44_100, speaker="bert"),
    )


def test_extracts_as_in_training_when_defaults_have_changed(write_checkpoint) -> None:  # type: ignore[no-untyped-def]
    pitch = {"octave_jump_cost": 0.77, "f0_min_hz": 60.0, "weights_sha256": "0"}
    recorded = {"pitch": pitch, "energy": {"window_hops": 8}}
    extractors = Converter.from_checkpoint(write_checkpoint(features=recorded)).extractors
    assert extractors.pitch._costs["octave_jump_cost"] == 0.77  # type: ignore[attr-defined]
    assert extractors.energy.window_hops == 8  # type: ignore[attr-defined]


def test_refuses_foreign_code(write_checkpoint) -> None:  # type: ignore[no-untyped-def]
    config = copy.deepcopy(CONFIG)
    config["content"] = {"_target_": "os.system", "command": "true"}
    with pytest.raises(UserError, match=r"os\.system"):
        Converter.from_checkpoint(write_checkpoint(config), device="cpu")


def test_refuses_another_shape(write_checkpoint) -> None:  # type: ignore[no-untyped-def]
    config = copy.deepcopy(CONFIG)
    config["arch"]["generator"]["backbone"]["layers"] = 5
    with pytest.raises(UserError, match="do not fit the model"):
        Converter.from_checkpoint(write_checkpoint(config), device="cpu")


def test_refuses_a_configuration_without_parts(write_checkpoint) -> None:  # type: ignore[no-untyped-def]
    path = write_checkpoint({key: value for key, value in CONFIG.items() if key != "pitch"})
    with pytest.raises(UserError, match="lacks 'pitch'"):
        Converter.from_checkpoint(path, device="cpu")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no checkpoint"):
        Converter.from_checkpoint(tmp_path / "none.ckpt", device="cpu")


class WeightedContent(MfccContent):
    """Stands in for an encoder whose weights lie in a folder."""

    __module__ = "svc.features.content.whisper"

    def __init__(self, model: str = "tiny.en") -> None:
        super().__init__()
        if not Path(model).is_dir():
            raise UserError(f"content.model={model}: there is no such folder.")
        self.model = model

    def identity(self) -> dict[str, str]:
        return {"weights_sha256": (Path(self.model) / "model.bin").read_text()}


class TestContentWeights:
    """They are not in the checkpoint, and may lie elsewhere when it is used."""

    @pytest.fixture
    def checkpoint(  # type: ignore[no-untyped-def]
        self, write_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Path:
        """Trained with the weights "one" in TMP/one."""
        monkeypatch.setattr("svc.features.content.whisper.WhisperContent", WeightedContent)
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "model.bin").write_text(name)
        content = {
            "_target_": "svc.features.content.whisper.WhisperContent",
            "model": str(tmp_path / "one"),
        }
        path: Path = write_checkpoint(
            {**CONFIG, "content": content}, {"content": {"weights_sha256": "one"}}
        )
        return path

    def test_are_found_where_the_training_had_them(self, checkpoint: Path) -> None:
        content = Converter.from_checkpoint(checkpoint, device="cpu").extractors.content
        assert content.identity() == {"weights_sha256": "one"}

    def test_are_found_where_they_were_moved(self, checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "one").rename(tmp_path / "moved")
        with pytest.raises(UserError, match=r"are not in .*one.*content_model=FOLDER"):
            Converter.from_checkpoint(checkpoint, device="cpu")
        with pytest.raises(UserError, match=r"content\.model=nowhere(?s:.*)content_model="):
            Converter.from_checkpoint(checkpoint, device="cpu", content_model="nowhere")
        with pytest.raises(UserError, match=r"are not in \./no, for there is no folder"):
            Converter.from_checkpoint(checkpoint, device="cpu", content_model="./no")
        moved = str(tmp_path / "moved")
        loaded = Converter.from_checkpoint(checkpoint, device="cpu", content_model=moved)
        assert isinstance(loaded.extractors.content, WeightedContent)
        assert loaded.extractors.content.model == moved

    def test_are_refused_where_they_are_others(self, checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"is two.*trained with one.*content_model="):
            Converter.from_checkpoint(checkpoint, device="cpu", content_model=str(tmp_path / "two"))

    def test_of_a_tracker_are_compared_too(  # type: ignore[no-untyped-def]
        self, write_checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ParselmouthPitch, "identity", lambda _: {"weights_sha256": "a"})
        path = write_checkpoint(features={"pitch": {"weights_sha256": "b"}})
        with pytest.raises(UserError, match=r"pitch tracker.* is a, .* trained with b"):
            Converter.from_checkpoint(path, device="cpu")

    def test_are_not_given_to_an_encoder_without(self, write_checkpoint) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(UserError, match=r"content_model=x.*leave content_model out"):
            Converter.from_checkpoint(write_checkpoint(), device="cpu", content_model="x")
