"""WORLD's trackers: what is particular to them. The contract is in test_pitch.py."""

import sys

import pytest
import torch

from features.feature_signals import HOP, RATE_HZ, sawtooth
from svc.errors import UserError
from svc.features.pitch.world import DioPitch, HarvestPitch, WorldPitch

BOTH = pytest.mark.parametrize("kind", [DioPitch, HarvestPitch])


@BOTH
def test_without_the_extra_it_is_named(
    kind: type[WorldPitch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(UserError, match=r"svc\[world\]"):
        kind()


class TestWithTheExtra:
    @pytest.fixture(autouse=True)
    def _extra(self) -> None:
        pytest.importorskip("pyworld")

    @BOTH
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"f0_max_hz": 2500.0}, "<= 2000"),
            ({"f0_min_hz": 0.0}, "f0_min_hz=0"),
            ({"silent_below_db": 3.0}, "silent_below_db=3"),
        ],
    )
    def test_settings_out_of_range_are_refused(
        self, kind: type[WorldPitch], settings: dict[str, float], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            kind(**settings)  # type: ignore[arg-type]

    def test_what_is_far_below_the_loudest_is_unvoiced(self) -> None:
        tone = sawtooth(torch.full((20 * HOP,), 200.0))
        audio = torch.cat([tone, 0.02 * tone])
        default, wider = (
            DioPitch(silent_below_db=limit).track(audio, RATE_HZ, HOP) for limit in (-30.0, -40.0)
        )
        assert bool(default.voiced[3:17].all())
        assert not default.voiced[23:37].any()
        assert bool(wider.voiced[23:37].all())

    def test_level_does_not_matter(self) -> None:
        tone = sawtooth(torch.full((20 * HOP,), 200.0))
        loud, quiet = (DioPitch().track(gain * tone, RATE_HZ, HOP) for gain in (2.0, 1e-4))
        assert torch.equal(loud.voiced, quiet.voiced)
        assert float((1200 * torch.log2(loud.f0_hz / quiet.f0_hz)).abs().max()) < 0.1

    def test_dio_finds_f0_below_what_stonemask_refines(self) -> None:
        tone = sawtooth(torch.full((RATE_HZ,), 35.0))
        pitch = DioPitch(f0_min_hz=30.0).track(tone, RATE_HZ, HOP)
        assert bool(pitch.voiced[10:-10].all())
        assert float((1200 * torch.log2(pitch.f0_hz[10:-10] / 35.0)).abs().max()) < 30
