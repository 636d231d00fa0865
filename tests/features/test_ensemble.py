"""Trackers that vote, with members whose contours are known."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from svc.data.settings import part_settings
from svc.errors import UserError
from svc.features.pitch.base import Pitch, PitchTracker
from svc.features.pitch.contour import pitch_of
from svc.features.pitch.ensemble import EnsemblePitch
from svc.features.pitch.parselmouth import ParselmouthPitch
from svc.features.pitch.repair import continued, fill_dropouts, unfold_octaves

RATE_HZ, HOP = 44_100, 512
NAN = math.nan


class Said(PitchTracker):
    """Says what it was told to, whatever it hears."""

    def __init__(
        self, f0_hz: list[float], f0_min_hz: float = 40.0, f0_max_hz: float = 1600.0, mark: str = ""
    ) -> None:
        self.said = f0_hz
        self.f0_min_hz, self.f0_max_hz = f0_min_hz, f0_max_hz
        self.mark = mark

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        return pitch_of(np.array(self.said), self.f0_min_hz, self.f0_max_hz)

    def identity(self) -> dict[str, str]:
        return {"weights_sha256": self.mark}


def said(*f0_hz: float, mark: str = "") -> functools.partial[Said]:
    return functools.partial(Said, list(f0_hz), mark=mark)


def vote(
    *contours: list[float], longest_jump_s: float = 0.0, longest_dropout_s: float = 0.0
) -> Pitch:
    members = {str(index): said(*contour) for index, contour in enumerate(contours)}
    ensemble = EnsemblePitch(
        members, longest_jump_s=longest_jump_s, longest_dropout_s=longest_dropout_s
    )
    return ensemble.track(torch.zeros(len(contours[0]) * HOP), RATE_HZ, HOP)


class TestVoting:
    def test_the_majority_decides_f0_and_voicing(self) -> None:
        pitch = vote([200, 200, 0, 300], [201, 100, 0, 0], [202, 200, 150, 0])
        assert pitch.voiced.tolist() == [True, True, False, False]
        assert float(pitch.f0_hz[0]) == pytest.approx(201, abs=1e-3)
        assert float(pitch.f0_hz[1]) == pytest.approx(200, abs=1e-3)

    def test_an_even_number_meets_in_the_middle_over_log_frequency(self) -> None:
        pitch = vote([200.0], [204.0])
        assert float(pitch.f0_hz[0]) == pytest.approx(math.sqrt(200 * 204), abs=1e-3)

    @pytest.mark.parametrize("liar", [0, 1])
    def test_of_two_opinions_the_one_like_its_surroundings_is_believed(self, liar: int) -> None:
        right, wrong = [220.0] * 9, [220.0] * 3 + [110.0] * 3 + [220.0] * 3
        pitch = vote(*([wrong, right] if liar == 0 else [right, wrong]))
        assert pitch.f0_hz.tolist() == pytest.approx([220.0] * 9, abs=1e-3)

    def test_a_batch_is_its_pieces_and_runs_where_a_member_does(self) -> None:
        class OnGpu(ParselmouthPitch):
            device = "cuda"

        members = {"first": ParselmouthPitch, "second": OnGpu}
        ensemble = EnsemblePitch(members)
        assert ensemble.device == "cuda"
        time_s = torch.arange(RATE_HZ // 2) / RATE_HZ
        pieces = [torch.sin(2 * torch.pi * hz * time_s) for hz in (200.0, 300.0)]
        pieces.append(torch.zeros(0))
        for pitch, piece in zip(ensemble.track_batch(pieces, RATE_HZ, HOP), pieces, strict=True):
            assert torch.equal(pitch.f0_hz, ensemble.track(piece, RATE_HZ, HOP).f0_hz)

    def test_without_any_agreement_the_first_member_is_believed(self) -> None:
        assert vote([200.0, 210.0], [400.0, 420.0]).f0_hz.tolist() == pytest.approx([200, 210])

    def test_half_of_the_votes_are_enough_only_beside_a_note_that_is_sure(self) -> None:
        one = [0.0, 200, 200, 200, 0, 0, 500, 500, 0]
        other = [0.0, 200, 200, 0, 0, 0, 0, 0, 0]
        assert vote(one, other).voiced.tolist() == [False, True, True, True] + [False] * 5

    def test_nothing_voiced_is_all_zeros(self) -> None:
        pitch = vote([0.0] * 4, [0.0] * 4, [0.0, 0.0, 90.0, 0.0])
        assert not pitch.voiced.any()
        assert not pitch.f0_hz.any()


class TestRepair:
    @pytest.mark.parametrize("octaves", [-1, 1, 2])
    def test_short_octave_jumps_are_moved_back(self, octaves: int) -> None:
        note = np.log2(np.linspace(200, 230, 40))
        folded = note.copy()
        folded[15:22] += octaves
        assert unfold_octaves(folded, 7) == pytest.approx(note)
        assert (unfold_octaves(folded, 6) == folded).all()

    def test_other_leaps_and_longer_runs_stay(self) -> None:
        fifth = np.repeat(np.log2([200.0, 300.0, 200.0]), 10)
        assert (unfold_octaves(fifth, 20) == fifth).all()
        sung_octave = np.repeat(np.log2([200.0, 400.0, 200.0]), [5, 10, 5])
        assert (unfold_octaves(sung_octave, 20) == sung_octave).all()

    def test_a_jump_beside_a_long_pause_may_be_a_note(self) -> None:
        contour = np.repeat([7.0, NAN, 8.0, 7.0], [20, 9, 4, 20])
        assert np.array_equal(unfold_octaves(contour, 5), contour, equal_nan=True)
        assert unfold_octaves(contour, 9)[30] == 7

    def test_gaps_within_a_note_are_bridged(self) -> None:
        contour = np.array([NAN, 8.0, NAN, NAN, 8.03, NAN, NAN, NAN, 8.0, NAN, 8.5, NAN])
        mended = fill_dropouts(contour, 2)
        assert mended[2:4] == pytest.approx([8.01, 8.02])
        still = [0, 5, 6, 7, 9, 11]
        assert np.isnan(mended).nonzero()[0].tolist() == still

    def test_continuing_ends_at_a_leap(self) -> None:
        contour = np.array([7.0, 7.01, 7.02, 7.5, 7.5, NAN, 7.0])
        sure = np.array([False, True, False, False, False, False, False])
        assert continued(contour, sure).tolist() == [True] * 3 + [False] * 4

    def test_the_ensemble_applies_both(self) -> None:
        one = np.full(60, 300.0)
        one[20:25] = 150
        one[40:42] = 0
        f0_hz = vote(one.tolist(), one.tolist(), longest_jump_s=0.1, longest_dropout_s=0.03).f0_hz
        assert f0_hz.tolist() == pytest.approx([300.0] * 60, abs=1e-3)


class TestCompare:
    def test_shares_spans_and_who_is_outvoted(self) -> None:
        a = [200.0] * 20
        b = [200.0] * 4 + [100.0] * 4 + [200.0] * 2 + [260.0] * 2 + [200.0] * 8
        c = [200.0] * 12 + [0.0] * 6 + [200.0, 0.0]
        ensemble = EnsemblePitch({"a": said(*a), "b": said(*b), "c": said(*c)})
        report = ensemble.compare(torch.zeros(20 * HOP), RATE_HZ, HOP)
        assert report.f0_share == pytest.approx(6 / 20)
        assert report.octave_share == pytest.approx(4 / 20)
        assert report.voicing_share == pytest.approx(7 / 20)
        assert report.share == pytest.approx(13 / 20)
        assert report.outvoted == pytest.approx({"a": 0, "b": 6 / 20, "c": 7 / 20})
        hop_s = HOP / RATE_HZ
        assert [(s.start_s, s.stop_s, s.kind) for s in report.spans] == [
            (pytest.approx(4 * hop_s), pytest.approx(8 * hop_s), "octave"),
            (pytest.approx(10 * hop_s), pytest.approx(12 * hop_s), "f0"),
            (pytest.approx(12 * hop_s), pytest.approx(18 * hop_s), "voicing"),
        ]

    def test_agreement_reports_nothing(self) -> None:
        ensemble = EnsemblePitch({"a": said(200, 0, 210), "b": said(201, 0, 211)})
        report = ensemble.compare(torch.zeros(3 * HOP), RATE_HZ, HOP)
        assert report.share == report.f0_share == report.octave_share == 0
        assert report.spans == ()

    def test_less_than_a_frame(self) -> None:
        ensemble = EnsemblePitch({"a": ParselmouthPitch, "b": ParselmouthPitch})
        assert ensemble.compare(torch.zeros(10), RATE_HZ, HOP).share == 0


class TestMembers:
    def test_every_member_searches_the_ensembles_range(self) -> None:
        ensemble = EnsemblePitch({"a": said(90), "b": ParselmouthPitch}, 70.0, 700.0)
        assert [m.f0_min_hz for m in ensemble.members.values()] == [70, 70]
        assert [m.f0_max_hz for m in ensemble.members.values()] == [700, 700]

    def test_members_are_recorded_and_their_weights_told(self) -> None:
        made = functools.partial(EnsemblePitch, {"a": said(9, mark="x"), "b": ParselmouthPitch})
        settings = part_settings(made)
        assert settings["members"]["b"]["voicing_threshold"] > 0  # type: ignore[index,call-overload]
        assert settings["members"]["a"]["weights_sha256"] == "x"  # type: ignore[index,call-overload]
        assert made().identity() == {"a_weights_sha256": "x"}

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"members": {"a": ParselmouthPitch}}, r"1 tracker\(s\) \(a\)"),
            (
                {"members": {"a": ParselmouthPitch, "b": ParselmouthPitch()}},
                r"members\.b.*_partial_",
            ),
            ({"tolerance_cents": 700.0}, "tolerance_cents=700"),
            ({"longest_jump_s": -1.0}, "longest_jump_s=-1"),
            ({"f0_min_hz": 500.0, "f0_max_hz": 400.0}, "f0_max_hz=400"),
        ],
    )
    def test_faults_are_named(self, settings: dict[str, object], message: str) -> None:
        given = {"members": {"a": ParselmouthPitch, "b": ParselmouthPitch}, **settings}
        with pytest.raises(UserError, match=message):
            EnsemblePitch(**given)  # type: ignore[arg-type]
