"""Where trackers differ is found, measured and told."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from svc.audio.io import write_audio
from svc.evaluation.pitch.agreement import Agreement, compare, file_agreement, measure_agreement
from svc.evaluation.pitch.contenders import Contender
from svc.evaluation.pitch.tables import agreement_markdown
from svc.features.pitch.base import Pitch, PitchTracker

FRAME_RATE_HZ = 100.0


def flat(frames: int, f0_hz: float = 200.0) -> Pitch:
    return Pitch(torch.full((frames,), f0_hz), torch.ones(frames, dtype=torch.bool))


def test_pairs_are_counted_frame_by_frame() -> None:
    one, other = flat(10), flat(10)
    other.f0_hz[:2] = 400.0
    other.f0_hz[2] = 300.0
    other.voiced[8:] = False
    counts = compare(one, other)
    assert counts.within_50_cents == 5 / 8
    assert counts.octave_disagreement == 2 / 8
    assert counts.voicing_disagreement == 2 / 10
    counts.add(compare(one, one))
    assert counts.within_50_cents == 15 / 18
    assert counts.voicing_disagreement == 2 / 20


def test_silence_has_no_agreement_to_tell() -> None:
    nothing = Pitch(torch.zeros(5), torch.zeros(5, dtype=torch.bool))
    counts = compare(nothing, nothing)
    assert math.isnan(counts.within_50_cents)
    assert counts.voicing_disagreement == 0.0
    told = file_agreement("a.wav", {"a": nothing, "b": nothing}, FRAME_RATE_HZ)
    assert math.isnan(told.disputed_share)
    assert (told.disputed_s, told.spans) == (0.0, ())


def test_spans_say_when_and_what_each_heard() -> None:
    contours = {name: flat(400) for name in ("a", "b", "c")}
    contours["b"].f0_hz[100:150] = 400.0
    contours["c"].voiced[100:150] = False
    contours["b"].f0_hz[155:160] = 400.0  # a gap of 50 ms: the same disagreement
    contours["a"].f0_hz[300:310] = 100.0
    contours["a"].voiced[350:] = contours["b"].voiced[350:] = False
    contours["c"].f0_hz[350:] = 777.0  # alone in calling it voiced: nobody objects
    told = file_agreement("x.wav", contours, FRAME_RATE_HZ)
    assert [(s.start_s, s.stop_s) for s in told.spans] == [(1.0, 1.6), (3.0, 3.1)]
    first, second = told.spans
    assert (first.f0_hz["a"], first.f0_hz["b"]) == (200.0, 400.0)
    assert second.f0_hz == {"a": 100.0, "b": 200.0, "c": 200.0}
    assert told.disputed_s == pytest.approx(0.65)
    assert told.disputed_share == pytest.approx(65 / 350)
    assert told.duration_s == 4.0


class ByLevel(PitchTracker):
    """Calls everything voiced, at `f0_hz`, but an octave lower where the audio is loud."""

    def __init__(self, octave_where_loud: bool) -> None:
        self.octave_where_loud = octave_where_loud

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        frames = len(audio) // hop_samples
        level = audio[: frames * hop_samples].view(frames, hop_samples).abs().amax(dim=1)
        f0_hz = torch.where((level > 0.5) & self.octave_where_loud, 100.0, 200.0)
        return Pitch(f0_hz, torch.ones(frames, dtype=torch.bool))


@pytest.fixture
def agreement(tmp_path: Path) -> Agreement:
    quiet, loud = torch.full((44_100,), 0.1), torch.full((44_100,), 0.8)
    quiet[::2] *= -1
    loud[::2] *= -1
    write_audio(tmp_path / "calm.wav", torch.cat([quiet, quiet]))
    write_audio(tmp_path / "deep/wild.wav", torch.cat([quiet, loud]))
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    files = [tmp_path / name for name in ("broken.wav", "calm.wav", "deep/wild.wav")]
    contenders = [Contender("plain", ByLevel(False)), Contender("jumpy", ByLevel(True))]
    return measure_agreement(contenders, files, tmp_path, 44_100, 512)


def test_a_folder_gives_pairs_worst_files_and_reasons(agreement: Agreement) -> None:
    counts = agreement.pairs["plain", "jumpy"]
    assert counts.octave_disagreement == pytest.approx(0.25, abs=0.01)
    assert counts.within_50_cents == pytest.approx(0.75, abs=0.01)
    assert [file.name for file in agreement.worst_first()] == ["deep/wild.wav", "calm.wav"]
    (span,) = agreement.worst_first()[0].spans
    assert (span.start_s, span.stop_s) == pytest.approx((1.0, 2.0), abs=0.02)
    ((name, reason),) = agreement.skipped
    assert name == "broken.wav"
    assert reason


def test_the_page_names_files_and_times(agreement: Agreement) -> None:
    text = agreement_markdown(agreement, [], [], "Here.")
    assert "**deep/wild.wav**: 1.0 of 2.0 s" in text
    assert "plain 200 Hz, jumpy 100 Hz" in text
    assert "**calm.wav**" not in text
    assert "- broken.wav: " in text
