"""Which values a constructor's annotations refuse before anything is built."""

from pathlib import Path
from typing import Literal

import pytest
import torch

from svc.config.signatures import signature_faults, with_values_as_wanted


class Part:
    """A constructor with the unions that parts of libraries really have."""

    def __init__(
        self,
        rate: float | torch.Tensor = 0.1,
        network: torch.nn.Module | None = None,
        path: str | Path | None = None,
        devices: int | str = 1,
        steps: int = 1,
        exact: bool = False,
        compile: Literal[False, True, "max"] = False,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.99),
        inner: torch.nn.Module = torch.nn.Identity(),  # noqa: B008 (only the annotation matters)
    ) -> None: ...


def faults(**settings: object) -> list[str]:
    return signature_faults({"_target_": f"{__name__}.Part", **settings}, "part")


@pytest.mark.parametrize(
    "settings",
    [
        {"rate": 1},
        {"rate": 0.5},
        {"network": None},
        {"network": {"_target_": "torch.nn.Identity"}},
        {"path": "a/b"},
        {"path": None},
        {"devices": "auto"},
        {"steps": 1e3},
        {"betas": [0.8, 0.99]},
    ],
)
def test_what_fits_passes(settings: dict[str, object]) -> None:
    assert faults(**settings) == []


@pytest.mark.parametrize(
    "settings",
    [
        *({"rate": "fast"}, {"rate": None}, {"network": 3}, {"rate": [0.1]}),
        *({"betas": 0.9}, {"betas": [0.9]}, {"steps": 1.5}, {"inner": None}),
    ],
)
def test_nothing_that_is_typed_passes_for_a_live_object(settings: dict[str, object]) -> None:
    ((name, _),) = settings.items()
    (fault,) = faults(**settings)
    assert fault.startswith(f"part.{name}=")


@pytest.mark.parametrize(
    ("name", "typed", "wanted"),
    [
        ("steps", 1e3, 1000),
        ("steps", "8", 8),
        ("exact", "no", False),
        ("exact", 1, True),
        ("compile", 0, False),
        ("compile", "max", "max"),
        ("rate", 1, 1),
        ("path", "a", "a"),
        ("betas", [0.8, 0.99], [0.8, 0.99]),
    ],
)
def test_values_come_in_the_type_that_is_wanted(name: str, typed: object, wanted: object) -> None:
    """`no` would be true, and 1e3 a number of steps that nothing can count to."""
    part = {"_target_": f"{__name__}.Part", name: typed}
    config = with_values_as_wanted({"seed": 1, "parts": [part, None], "names": ["no"]})
    value = config["parts"][0][name]
    assert value == wanted
    assert type(value) is type(wanted)
    assert config == {"seed": 1, "parts": [{**part, name: wanted}, None], "names": ["no"]}
