"""Every option of `pitch=` as a live tracker, with what may be expected of it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from svc.config.instantiate import build
from svc.config.paths import conf_dir
from svc.config.resolvers import register_resolvers
from svc.config.schema import register_schemas
from svc.errors import UserError
from svc.features.pitch.base import PitchTracker


@dataclass(frozen=True)
class Expected:
    """What a tracker promises beyond the contract."""

    cents: float = 5.0
    """On a steady tone."""
    pure: bool = True
    """Whether it finds tones without harmonics."""
    tones_hz: tuple[float, ...] = (60.0, 220.0, 441.0, 1000.0)
    local: bool = True
    """Whether frames depend on their surroundings alone, by less than a cent."""
    missing_fundamental: bool = True
    """Whether it finds the pitch of a voice through a telephone, which takes the fundamental."""
    slow: bool = False
    may_lack: str | None = None
    """Weights or an extra that a machine may be without."""


EXPECTED = {
    "parselmouth": Expected(tones_hz=(60.0, 98.0, 220.0, 441.0, 1000.0, 1500.0)),
    "dio": Expected(cents=6.0, missing_fundamental=False, may_lack="pyworld"),
    "harvest": Expected(
        pure=False, local=False, missing_fundamental=False, slow=True, may_lack="pyworld"
    ),
    "fcpe": Expected(cents=15.0, pure=False, local=False, slow=True, may_lack="torchfcpe"),
    "crepe": Expected(cents=25.0, local=False, slow=True),
    "crepe_tiny": Expected(cents=40.0, local=False, tones_hz=(98.0, 220.0, 441.0)),
    "rmvpe": Expected(cents=15.0, pure=False, local=False, slow=True, may_lack="rmvpe"),
    "ensemble": Expected(cents=25.0, local=False, slow=True, tones_hz=(98.0, 220.0, 441.0)),
}
"""By option. An option that is not here is held to the defaults."""


def pitch_options() -> list[Any]:
    """A pytest parameter for each file of conf/pitch."""
    names = sorted(path.stem for path in (conf_dir() / "pitch").glob("*.yaml"))
    return [
        pytest.param(name, id=name, marks=[pytest.mark.slow] if expected(name).slow else [])
        for name in names
    ]


def expected(option: str) -> Expected:
    """What may be expected of an option."""
    return EXPECTED.get(option, Expected())


@lru_cache
def tracker_of(option: str) -> PitchTracker:
    """The option's tracker, or a skip where this machine lacks what it needs."""
    register_schemas()
    register_resolvers()
    GlobalHydra.instance().clear()
    needed = ["dataset.path=x", "content=mfcc", "paths.store_dir=s", "paths.run_dir=r"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("preprocess", [*needed, f"pitch={option}"])
    GlobalHydra.instance().clear()
    node: Any = OmegaConf.to_container(config.pitch, resolve=True)
    lacking = expected(option).may_lack
    if "offline" in node:
        node["offline"] = True
    try:
        tracker: PitchTracker = build(node)
    except UserError as error:
        if lacking is None or lacking not in str(error):
            raise
        pytest.skip(f"{option}: {str(error).splitlines()[0]}")
    return tracker
