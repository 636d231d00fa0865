"""Every option of `pitch=` as a live tracker, with what may be expected of it."""

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from svc.config.composition import composed
from svc.config.instantiate import build
from svc.config.paths import conf_dir
from svc.errors import UserError
from svc.features.pitch.base import PitchTracker
from svc.models.rmvpe import Rmvpe, RmvpeSize


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
    random_weights: bool = False
    """Whether small random weights can take the place of those that a machine may be without, for
    what holds whatever the weights are."""
    ten_minutes: bool = True
    """Whether ten minutes of audio take less than a minute."""


EXPECTED = {
    "parselmouth": Expected(tones_hz=(60.0, 98.0, 220.0, 441.0, 1000.0, 1500.0)),
    "dio": Expected(cents=6.0, missing_fundamental=False, may_lack="pyworld"),
    "harvest": Expected(
        pure=False,
        local=False,
        missing_fundamental=False,
        slow=True,
        may_lack="pyworld",
        ten_minutes=False,
    ),
    "fcpe": Expected(cents=15.0, pure=False, local=False, slow=True, may_lack="torchfcpe"),
    "crepe": Expected(cents=25.0, local=False, slow=True, ten_minutes=False),
    "crepe_tiny": Expected(cents=40.0, local=False, tones_hz=(98.0, 220.0, 441.0)),
    "rmvpe": Expected(
        cents=15.0, pure=False, local=False, slow=True, may_lack="rmvpe", random_weights=True
    ),
    "ensemble": Expected(
        cents=25.0, local=False, slow=True, tones_hz=(98.0, 220.0, 441.0), ten_minutes=False
    ),
}
"""By option. An option that is not here is held to the defaults."""


def pitch_options(any_weights: bool = False) -> list[Any]:
    """A pytest parameter for each file of conf/pitch.

    Args:
        any_weights: the test asks for `tracker_with_any_weights`, whose random networks are small.
    """
    names = sorted(path.stem for path in (conf_dir() / "pitch").glob("*.yaml"))
    return [
        pytest.param(
            name,
            id=name,
            marks=[pytest.mark.slow]
            if expected(name).slow and not (any_weights and expected(name).random_weights)
            else [],
        )
        for name in names
    ]


def expected(option: str) -> Expected:
    """What may be expected of an option."""
    return EXPECTED.get(option, Expected())


def tracker_of(option: str) -> PitchTracker:
    """The option's tracker, or a skip where this machine lacks what it needs."""
    tracker = _built(option)
    if isinstance(tracker, str):
        pytest.skip(tracker)
    return tracker


def tracker_with_any_weights(option: str) -> PitchTracker:
    """The option's tracker, with small random weights where it has to be given some."""
    return _with_random_weights(option) if expected(option).random_weights else tracker_of(option)


@lru_cache
def _with_random_weights(option: str) -> PitchTracker:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "random.pt")
        torch.manual_seed(0)
        size = RmvpeSize(channels=2, levels=2, blocks=1, bottom_layers=1)
        torch.save(Rmvpe(size).state_dict(), file)
        tracker: PitchTracker = build({**_settings(option), "model": str(file)})
        return tracker


@lru_cache
def _built(option: str) -> PitchTracker | str:
    """The tracker, or what this machine lacks."""
    lacking = expected(option).may_lack
    try:
        tracker: PitchTracker = build(_settings(option))
    except UserError as error:
        if lacking is None or lacking not in str(error):
            raise
        return f"{option}: {str(error).splitlines()[0]}"
    return tracker


def _settings(option: str) -> dict[str, Any]:
    node = composed("preprocess", {"content": "mfcc", "pitch": option}, {})["pitch"]
    return {**node, "offline": True} if "offline" in node else dict(node)
