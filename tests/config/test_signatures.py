"""Which values a constructor's annotations refuse before anything is built."""

from pathlib import Path

import pytest
import torch

from svc.config.signatures import signature_faults


class Part:
    """A constructor with the unions that parts of libraries really have."""

    def __init__(
        self,
        rate: float | torch.Tensor = 0.1,
        network: torch.nn.Module | None = None,
        path: str | Path | None = None,
        devices: int | str = 1,
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
    ],
)
def test_what_fits_passes(settings: dict[str, object]) -> None:
    assert faults(**settings) == []


@pytest.mark.parametrize(
    "settings", [{"rate": "fast"}, {"rate": None}, {"network": 3}, {"rate": [0.1]}]
)
def test_nothing_that_is_typed_passes_for_a_live_object(settings: dict[str, object]) -> None:
    ((name, _),) = settings.items()
    (fault,) = faults(**settings)
    assert fault.startswith(f"part.{name}=")
