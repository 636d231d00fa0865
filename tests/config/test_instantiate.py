"""The one helper that turns settings into objects."""

import pytest
from omegaconf import OmegaConf

from svc.audio.spec import AudioSpec
from svc.config.instantiate import build
from svc.errors import UserError

SPEC = {"_target_": "svc.audio.spec.AudioSpec", "mel_bins": 80}


def test_builds_from_plain_and_from_omegaconf() -> None:
    assert build(SPEC) == AudioSpec(mel_bins=80)
    root = OmegaConf.create({"bins": 80, "audio": {**SPEC, "mel_bins": "${bins}"}})
    assert build(root.audio) == AudioSpec(mel_bins=80)


def test_overrides_are_passed_at_the_call() -> None:
    assert build(SPEC, mel_bins=64).mel_bins == 64


def test_lists_reach_the_constructor_as_plain_lists() -> None:
    config = OmegaConf.create({"_target_": "builtins.dict", "values": [1, [2, 3]], "m": {"a": [1]}})
    built = build(config)
    assert type(built["values"]) is list
    assert type(built["values"][1]) is list
    assert type(built["m"]) is dict


def test_a_constructors_refusal_is_told_without_hydras_wrapping() -> None:
    with pytest.raises(UserError, match=r"^audio\.mel_min_hz=5 and audio\.mel_max_hz=3"):
        build(SPEC, mel_min_hz=5, mel_max_hz=3)
    with pytest.raises(UserError, match="unexpected keyword argument 'mel_bin'"):
        build(SPEC, mel_bin=3)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "svc.audio.io.os.system",
        "svc.config.instantiate.importlib.import_module",
        "svc.config.instantiate.re",
        "svc.audio.spec.dataclass",
        "svc/../os.system",
        "svc",
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_file_cannot_name_anything_but_our_own_parts(target: str, depth: int) -> None:
    config: dict[str, object] = {"_target_": target}
    for _ in range(depth):
        config = {"_target_": "svc.audio.spec.AudioSpec", "mel_bins": [config]}
    with pytest.raises(UserError, match="is not a part of svc"):
        build(config, trusted=False)


def test_a_file_may_name_our_own_parts() -> None:
    assert build(SPEC, trusted=False) == AudioSpec(mel_bins=80)


def test_live_objects_reach_the_constructor_as_they_are() -> None:
    spec = AudioSpec(mel_bins=80)
    assert build({"_target_": "builtins.dict", "a": 1}, spec=spec) == {"a": 1, "spec": spec}
    assert build({"_target_": "builtins.dict"}, spec=spec)["spec"] is spec


def test_mappings_are_merged_into_child_nodes() -> None:
    node = {"_target_": "builtins.dict", "spec": {**SPEC, "mel_min_hz": 5.0}}
    assert build(node, spec={"mel_bins": 64})["spec"] == AudioSpec(mel_bins=64, mel_min_hz=5.0)


def test_partial_from_the_call_and_from_the_node() -> None:
    assert build(SPEC, _partial_=True)(mel_min_hz=1.0) == AudioSpec(mel_bins=80, mel_min_hz=1.0)
    assert build({**SPEC, "_partial_": True})() == AudioSpec(mel_bins=80)
