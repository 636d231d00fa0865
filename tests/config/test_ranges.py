"""Numbers that no training can work with."""

from typing import Any

import pytest

from svc.config.composition import composed
from svc.config.ranges import RANGES, range_faults


def at(path: str, value: object) -> dict[str, Any]:
    """A tree that holds one value."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("path", RANGES)
def test_every_range_is_that_of_a_setting(path: str) -> None:
    """None is there for a name that has changed."""
    node: Any = composed("train", {"content": "mfcc"}, {})
    for key in path.split("."):
        node = node[key]


def test_what_the_files_say_is_in_range() -> None:
    assert range_faults(composed("train", {"content": "mfcc", "trainer": "ddp_bf16"}, {})) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("seed", -1, "seed=-1 must be from 0 to 4294967295"),
        ("seed", 2**32, "from 0 to 4294967295"),
        ("data.batch_size", 0, "data.batch_size=0 must be at least 1 or auto"),
        ("trainer.max_steps", 0, "at least 1 or -1 (-1 goes on until it is stopped)"),
        ("trainer.max_steps", -5, "trainer.max_steps=-5 must be"),
        ("trainer.devices", 0, "trainer.devices=0 must be"),
        ("arch.gradient_clip_norm", 0, "above 0"),
        ("optim.lr", -1e-4, "optim.lr=-0.0001 must be at least 0"),
        ("trainer.limit_val_batches", -1, "at least 0"),
        ("trainer.limit_val_batches", 2.5, "a whole number of batches, or a share"),
    ],
)
def test_what_is_out_of_range_is_told(path: str, value: object, said: str) -> None:
    (fault,) = range_faults(at(path, value))
    assert said in fault


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.batch_size", "auto"),
        ("trainer.max_steps", -1),
        ("trainer.devices", "auto"),
        ("arch.render_frames", None),
        ("trainer.limit_val_batches", 1.0),
        ("trainer.limit_val_batches", 3),
        ("data.batch_size", "some"),  # no number: the signature's business
    ],
)
def test_what_is_in_range_passes(path: str, value: object) -> None:
    assert range_faults(at(path, value)) == []


def test_all_gpus_are_not_asked_for_on_a_cpu() -> None:
    assert range_faults({"trainer": {"accelerator": "gpu", "devices": -1}}) == []
    (fault,) = range_faults({"trainer": {"accelerator": "cpu", "devices": -1}})
    assert "on a CPU, give a number of processes" in fault
