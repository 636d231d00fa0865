"""How parts are recorded, also parts within parts."""

import functools
from collections.abc import Callable, Mapping

import pytest

from svc.data.settings import part_settings


class Member:
    def __init__(
        self,
        threshold: float = 0.5,
        device: str = "cpu",
        model: str = "",
        offline: bool = False,
    ) -> None:
        self.model = model

    def identity(self) -> dict[str, str]:
        return {"weights_sha256": f"hash of {self.model}"}


class Group:
    def __init__(self, members: Mapping[str, Callable[[], Member]], range_hz: float = 3.0) -> None:
        self.members = {name: make() for name, make in members.items()}


def grouped(**members: Callable[[], Member]) -> functools.partial[Group]:
    return functools.partial(Group, members=members)


def test_parts_within_parts_are_recorded_with_defaults_and_identity() -> None:
    settings = part_settings(grouped(a=functools.partial(Member, 0.2, model="m"), b=Member))
    assert settings == {
        "_target_": f"{__name__}.Group",
        "members": {
            "a": {
                "_target_": f"{__name__}.Member",
                "threshold": 0.2,
                "weights_sha256": "hash of m",
            },
            "b": {"_target_": f"{__name__}.Member", "threshold": 0.5, "weights_sha256": "hash of "},
        },
        "range_hz": 3.0,
    }


def test_where_an_inner_part_computes_changes_nothing() -> None:
    on_cpu, on_gpu = (grouped(a=functools.partial(Member, device=d)) for d in ("cpu", "cuda"))
    assert part_settings(on_cpu) == part_settings(on_gpu)


def test_whether_weights_may_be_fetched_changes_nothing() -> None:
    assert part_settings(functools.partial(Member, offline=True)) == part_settings(Member)


def test_a_live_part_cannot_be_recorded() -> None:
    with pytest.raises(TypeError, match="is Member"):
        part_settings(functools.partial(Group, members={"a": Member}, range_hz=Member()))  # type: ignore[arg-type]
