"""What is decided before a training run begins."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from store_material import (
    SPEC,
    BlockContent,
    CountedEnergy,
    CrossingPitch,
    prepare_small,
    write_voice,
)
from svc.audio.mel import MelSpectrogram
from svc.cli import training_run
from svc.cli.training_run import (
    prepared_store,
    trained_vocoder,
    with_absolute_folders,
    with_mel_bounds,
    with_vocoder_shape,
)
from svc.config.paths import conf_dir
from svc.config.resolvers import register_resolvers
from svc.config.schema import register_schemas
from svc.data.demo.source import DemoSource
from svc.data.settings import ExtractionSettings
from svc.data.store import AUDIO_FULL_SCALE, FeatureStore
from svc.data.store_writer import StoreWriter
from svc.errors import UserError
from svc.inference.loading import load_vocoder
from svc.models.mel_level import energy_level
from tiny_checkpoint import GENERATORS, checkpoint

__all__ = ["checkpoint"]


def shaped(config: dict[str, Any]) -> dict[str, Any]:
    return with_vocoder_shape(config, trained_vocoder(config, SPEC))


def test_folders_are_recorded_from_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "whisper").mkdir()
    given = {"content": {"model": "whisper", "device": "cpu"}, "dataset": {"path": "voices"}}
    assert with_absolute_folders(given) == {
        "content": {"model": str(tmp_path / "whisper"), "device": "cpu"},
        "dataset": {"path": str(tmp_path / "voices")},
    }
    assert given["content"] == {"model": "whisper", "device": "cpu"}
    vocoder = {"content": {}, "dataset": {}, "vocoder_weights": "runs/vocoder"}
    assert with_absolute_folders(vocoder)["vocoder_weights"] == str(tmp_path / "runs" / "vocoder")
    for content in ({"model": "tiny.en"}, {"model": None}, {"coefficients": 8}):
        same = {"content": content, "dataset": {}}
        assert with_absolute_folders(same) == same


def test_a_dataset_that_is_prepared_already_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        write_voice(tmp_path / "anna" / f"{number}.wav", 3.5, number)
    prepare_small(tmp_path, tmp_path / "store")
    wanted = ExtractionSettings.of(
        spec=SPEC,
        slicing={},
        content=BlockContent,
        pitch=partial(CrossingPitch, f0_min_hz=60.0),
        energy=CountedEnergy,
    )
    monkeypatch.setattr(training_run, "extraction_settings", lambda _: wanted)
    config: dict[str, Any] = {"paths": {"store_dir": str(tmp_path / "store")}}
    config["dataset"] = {"_target_": "svc.data.sources.FolderSource", "path": str(tmp_path)}
    with caplog.at_level(logging.INFO):
        prepared_store(config, SPEC)
    (said,) = caplog.messages
    assert said == (
        f"Using the prepared dataset {tmp_path / 'store'}: 2 slices, 0.1 minutes of 1 speaker. "
        f"Run svc-preprocess after changing the recordings."
    )
    demo = {"singers": 1, "minutes_per_singer": 0.05, "phrase_s": [2, 3]}
    DemoSource(tmp_path / "demo", **demo).recordings()  # type: ignore[arg-type]
    config["dataset"] = {
        "_target_": "svc.data.demo.source.DemoSource",
        **demo,
        "path": str(tmp_path / "demo"),
    }
    with caplog.at_level(logging.INFO):
        prepared_store(config, SPEC)
        assert len(caplog.messages) == 2
        config["dataset"]["singers"] = 2
        prepared_store(config, SPEC)
    assert "other settings than those asked for (singers: ['bruno_bass'] →" in caplog.messages[-1]
    assert "until svc-preprocess makes it anew" in caplog.messages[-1]


def test_who_waits_for_a_dataset_leaves_it_as_it_was_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_voice(tmp_path / "anna" / "song.wav", 3.5, 0)
    wanted = ExtractionSettings.of(
        spec=SPEC, slicing={}, content=BlockContent, pitch=CrossingPitch, energy=CountedEnergy
    )
    monkeypatch.setattr(training_run, "extraction_settings", lambda _: wanted)
    config = {"paths": {"store_dir": str(tmp_path / "store")}}
    with ThreadPoolExecutor(1) as other_job:
        with StoreWriter(tmp_path / "store").in_turn():
            waiting = other_job.submit(prepared_store, config, SPEC)
            prepare_small(tmp_path, tmp_path / "store")
        with pytest.raises(UserError, match=r"pitch.f0_min_hz: stored 60.0"):
            waiting.result(60)


@pytest.mark.parametrize("holder", ["nsf_hifigan", "hifisinger", "diffsvc"])
def test_a_trained_vocoder_brings_its_own_shape(
    checkpoint: Callable[..., Path], tmp_path: Path, holder: str
) -> None:
    asked: dict[str, Any] = {
        "vocoder_weights": str(checkpoint(holder)),
        "vocoder": {"_target_": "svc.models.griffin_lim.GriffinLim", "iterations": 8},
        "arch": {"generator": {**GENERATORS["flowsvc"], "vocoder": {"_target_": "other"}}},
    }
    completed = shaped(asked)
    assert completed["vocoder"] == GENERATORS["nsf_hifigan"]
    assert completed["arch"]["generator"]["vocoder"] == GENERATORS["nsf_hifigan"]
    assert asked["vocoder"]["iterations"] == 8
    # The folder of a run will do.
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    Path(asked["vocoder_weights"]).rename(tmp_path / "run" / "checkpoints" / "best.ckpt")
    asked["vocoder_weights"] = str(tmp_path / "run")
    assert shaped(asked) == {
        **completed,
        "vocoder_weights": str(tmp_path / "run"),
    }
    # Fine-tuning the vocoder itself.
    itself = {**asked, "arch": {"generator": {"_target_": GENERATORS["nsf_hifigan"]["_target_"]}}}
    assert shaped(itself)["arch"]["generator"] == GENERATORS["nsf_hifigan"]


def test_without_a_trained_vocoder_nothing_changes() -> None:
    asked = {"vocoder_weights": None, "vocoder": {"_target_": "any"}, "arch": {}}
    assert shaped(asked) == asked


def test_a_vocoder_that_does_not_fit_is_refused(checkpoint: Callable[..., Path]) -> None:
    other = checkpoint("nsf_hifigan", audio=replace(SPEC, mel_max_hz=16_000.0))
    asked = {"vocoder_weights": str(other), "arch": {"generator": GENERATORS["diffsvc"]}}
    with pytest.raises(UserError, match=r"mel_max_hz is 16000\.0, not 22050"):
        shaped(asked)
    learns = {"vocoder_weights": str(checkpoint("nsf_hifigan")), "vocoder": {}}
    with pytest.raises(UserError, match="learns its own decoder"):
        shaped({**learns, "arch": {"generator": GENERATORS["hifisinger"]}})


@pytest.mark.parametrize("relative", [False, True])
def test_bounds_of_the_dataset_are_those_of_its_training_mels(
    tmp_path: Path, relative: bool
) -> None:
    for number in range(3):
        write_voice(tmp_path / "anna" / f"{number}.wav", 3.5, number)
    prepare_small(tmp_path, tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    node = {"_target_": "svc.models.mel_scaling.dataset_scaling"}
    asked = {
        "mel_scaling": node,
        "arch": {"generator": {"scaling": node, "level_from_energy": relative}},
    }
    found = with_mel_bounds(asked, SPEC, store)
    mels = []
    for record in store.split("train"):
        audio = np.load(store.path(record, "audio")) / AUDIO_FULL_SCALE
        mel = MelSpectrogram(SPEC)(torch.tensor(audio, dtype=torch.float32)[None])
        energy = torch.from_numpy(np.load(store.path(record, "energy")))[None]
        mels.append(mel - energy_level(energy) if relative else mel)
    everything = torch.cat(mels, dim=-1)[0]
    scaling = found["arch"]["generator"]["scaling"]
    assert scaling["minimum"] == pytest.approx(everything.amin(1).tolist(), abs=1e-3)
    assert scaling["maximum"] == pytest.approx(everything.amax(1).tolist(), abs=1e-3)
    assert found["mel_scaling"] == scaling
    assert with_mel_bounds(found, SPEC, store) == found


@pytest.mark.parametrize("arch", ["diffsvc_tiny", "nsf_hifigan_tiny"])
def test_training_begins_with_the_trained_vocoder(
    checkpoint: Callable[..., Path], tmp_path: Path, arch: str
) -> None:
    """Its weights are in the model, in the average, and so in every checkpoint."""
    write_voice(tmp_path / "anna" / "0.wav", 3.5, 0)
    write_voice(tmp_path / "anna" / "1.wav", 3.5, 1)
    prepare_small(tmp_path, tmp_path / "store")
    path = checkpoint("nsf_hifigan")
    register_schemas()
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose(
            "train",
            [
                f"dataset.path={tmp_path}",
                f"arch={arch}",
                "content=mfcc",
                "trainer=cpu",
                "data.crop_frames=8",
                "~callbacks.samples",
                f"paths.run_dir={tmp_path}/run",
                f"paths.store_dir={tmp_path}/store",
                f"vocoder_weights='{path}'",
            ],
        )
    plain: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    completed = shaped(plain)
    store = FeatureStore.open(tmp_path / "store")
    module = training_run.training_parts(
        completed, SPEC, store, tmp_path / "run", vocoder=trained_vocoder(plain, SPEC)
    ).module
    trained = load_vocoder(path, SPEC).network.state_dict()
    assert module.facts.config["vocoder_weights"] == path.name, "tells nobody where it lay"
    for network in (module.generator, module.ema.network):
        vocoder = getattr(network, "vocoder", network)
        for name, value in vocoder.state_dict().items():
            assert torch.equal(value, trained[name]), name
