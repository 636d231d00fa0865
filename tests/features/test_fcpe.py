"""FCPE: what is particular to it. The contract is in test_pitch.py."""

import hashlib
import pickle
import sys

import pytest
import torch

from features.feature_signals import HOP, RATE_HZ, sawtooth
from svc.errors import UserError
from svc.features.pitch import fcpe
from svc.features.pitch.fcpe import FcpePitch


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchfcpe", None)
    with pytest.raises(UserError, match=r"svc\[fcpe\]"):
        FcpePitch()


class TestWithItsWeights:
    @pytest.fixture(autouse=True)
    def _extra(self) -> None:
        pytest.importorskip("torchfcpe")

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"f0_min_hz": 20.0}, "at least 32.7"),
            ({"f0_max_hz": 2000.0}, r"<= 1975\.5"),
            ({"threshold": 1.0}, "threshold=1"),
        ],
    )
    def test_settings_out_of_range_are_refused(
        self, settings: dict[str, float], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            FcpePitch(**settings)  # type: ignore[arg-type]

    def test_identity_is_the_hash_of_the_packaged_weights(self) -> None:
        tracker = FcpePitch()
        wanted = hashlib.sha256(tracker._weights.read_bytes()).hexdigest()
        assert tracker.identity() == {"weights_sha256": wanted}

    @pytest.mark.slow
    def test_pieces_join_without_a_seam_and_workers_load_their_own(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        time_s = torch.arange(4 * RATE_HZ) / RATE_HZ
        audio = sawtooth(220 * 2 ** (0.3 * torch.sin(4 * time_s)), harmonics=25)
        tracker = FcpePitch()
        whole = tracker.track(audio, RATE_HZ, HOP)
        sent = pickle.loads(pickle.dumps(tracker))
        assert len(pickle.dumps(tracker)) < 1000
        monkeypatch.setattr(fcpe, "_PIECE_FRAMES", 130)
        monkeypatch.setattr(fcpe, "_OVERLAP_FRAMES", 60)
        pieces = sent.track(audio, RATE_HZ, HOP)
        assert torch.equal(pieces.voiced, whole.voiced)
        # Each piece is normalised on its own, which moves F0 by a few cents.
        assert float((1200 * torch.log2(pieces.f0_hz / whole.f0_hz)).abs().max()) < 20
        assert not torch.equal(pieces.f0_hz, whole.f0_hz)
