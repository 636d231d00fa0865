"""Faults in a configuration are found before any work, and all at once."""

import copy
from typing import Any

import pytest

from svc.config.checks import check_config
from svc.errors import UserErrors

GOOD: dict[str, Any] = {
    "audio": {"_target_": "svc.audio.spec.AudioSpec", "mel_bins": 128, "hop_samples": 512},
    "vocoder": {"mel_bins": 128, "upsample_rates": [8, 8, 2, 2, 2]},
    "trainer": {"accelerator": "gpu", "devices": 1, "precision": "16-mixed"},
    "logger": {"csv": {"_target_": "builtins.dict"}},
    "callbacks": {"off": None},
}


def faults(config: dict[str, Any], **arguments: Any) -> list[str]:
    with pytest.raises(UserErrors) as caught:
        check_config(config, {}, **arguments)
    return caught.value.faults


def test_a_good_configuration_passes() -> None:
    check_config(GOOD, {}, device_problem=lambda *_: None)


def test_every_fault_is_reported_at_once() -> None:
    bad = copy.deepcopy(GOOD)
    bad["audio"] |= {"mel_bin": 1, "mel_min_hz": "low"}
    bad["vocoder"] = {"mel_bins": 80, "upsample_rates": [8, 8]}
    bad["logger"]["tensorboard"] = {"save_dir": "x"}
    found = faults(bad, device_problem=lambda *_: "there is no GPU")
    assert len(found) == 6
    for part in (
        "audio.mel_bin is not a setting of svc.audio.spec.AudioSpec; did you mean mel_bins?",
        "audio.mel_min_hz=low is not valid",
        "vocoder.mel_bins=80 must equal audio.mel_bins=128",
        "multiply to 64, but audio.hop_samples=512",
        "logger.tensorboard has no `_target_`",
        "there is no GPU",
    ):
        assert any(part in fault for fault in found), part


def test_missing_arguments_are_named_unless_given_at_run_time() -> None:
    config = {"part": {"_target_": "svc.config.resolvers.store_name"}}
    assert "part.dataset_path is missing" in faults(config)[0]
    check_config(config, {"part": ["dataset_path"]})


@pytest.mark.parametrize("value", [True, None, [1], "x", 1.5])
def test_wrong_types_are_refused(value: object) -> None:
    config = {"audio": {"_target_": "svc.audio.spec.AudioSpec", "mel_bins": value}}
    assert len(faults(config)) == 1


def test_a_target_that_is_not_there_is_named() -> None:
    assert "svc.nowhere.Thing" in faults({"part": {"_target_": "svc.nowhere.Thing"}})[0]


@pytest.mark.parametrize(
    ("trainer", "generator", "said"),
    [
        ({"strategy": "fsdp"}, {"denoiser": {}}, []),
        ({"strategy": "fsdp"}, {"decoder": {}}, ["divides a denoiser"]),
        ({"strategy": "auto", "compile": True}, {"decoder": {}}, []),
        ({"strategy": "fsdp", "compile": True}, {"denoiser": {}}, ["trainer.compile=True"]),
    ],
)
def test_only_denoisers_are_divided_over_processes(
    trainer: dict[str, Any], generator: dict[str, Any], said: list[str]
) -> None:
    config = {**GOOD, "trainer": {**GOOD["trainer"], **trainer}, "arch": {"generator": generator}}
    if not said:
        return check_config(config, {})
    found = faults(config)
    assert len(found) == len(said)
    for part, fault in zip(said, found, strict=True):
        assert part in fault
