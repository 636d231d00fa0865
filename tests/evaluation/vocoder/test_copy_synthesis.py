"""Copy-synthesis: what is made again, how it is scored, and what the results say."""

import csv
import math
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from svc.audio.io import write_audio
from svc.audio.spec import AudioSpec
from svc.errors import UserError, UserErrors
from svc.evaluation.metrics import pesq as pesq_module
from svc.evaluation.metrics.pesq import pesq_is_there, pesq_wideband
from svc.evaluation.task import Candidate
from svc.evaluation.vocoder.contenders import trained, untrained
from svc.evaluation.vocoder.copy_synthesis import CopySynthesis
from svc.evaluation.vocoder.material import RECORDINGS, Sample, demo_phrases, recordings
from svc.evaluation.vocoder.scores import Scorer
from svc.features.pitch.base import Pitch
from svc.features.pitch.parselmouth import ParselmouthPitch
from svc.models.griffin_lim import GriffinLim
from svc.models.nsf_hifigan import NsfHifiGan

SPEC = AudioSpec()


def vowel(f0_hz: float, frames: int = 120) -> Tensor:
    """[T] with twelve harmonics, a little softer at the ends."""
    phase = 2 * torch.pi * f0_hz * torch.arange(frames * 512) / 44_100
    tone = sum(torch.sin(k * phase) / k for k in range(1, 13))
    return 0.1 * tone * torch.hann_window(frames * 512).sqrt()  # type: ignore[operator]


class Playback(torch.nn.Module):
    """Stands in for a vocoder: plays a vowel of the F0 that it is asked for, or of its own."""

    mel_bins, hop_samples, receptive_frames, sine_source = 128, 512, 0, None

    def __init__(self, f0_hz: float | None = None) -> None:
        super().__init__()
        self.f0_hz = f0_hz

    def forward(self, mel: Tensor, f0_hz: Tensor, voiced: Tensor, **_: Any) -> Tensor:
        return vowel(self.f0_hz or float(f0_hz.median()), mel.shape[-1])[None, None]

    def fold_weight_norm(self) -> None:
        pass


def steady(f0_hz: float, frames: int = 120) -> Pitch:
    return Pitch(torch.full((frames,), f0_hz), torch.ones(frames, dtype=torch.bool))


def scored(vocoder: Playback, semitones: float) -> Any:
    scorer = Scorer(SPEC, semitones, seed=0)
    reference = scorer.reference(Sample(RECORDINGS, "a", vowel(220.0)), steady(220.0))
    audio = scorer.rendered(vocoder, reference, 0.0)
    shifted = scorer.rendered(vocoder, reference, semitones)
    return scorer.score("it", reference, audio, shifted)


def test_a_perfect_copy_scores_perfectly() -> None:
    score = scored(Playback(), 4.0)
    assert score.mel_l1 < 1e-5
    assert score.f0_median_cents < 0.5
    assert score.voicing_error_share == 0
    assert score.shifted_f0_median_cents < 3
    assert score.shifted_f0_gross_share == 0
    if pesq_is_there():
        assert score.pesq_wb == pytest.approx(4.64, abs=0.01)


def test_a_copy_that_is_sharp_or_does_not_follow_is_found_out() -> None:
    sharp = scored(Playback(220.0 * 2 ** (1 / 12)), 7.0)
    assert sharp.f0_median_cents == pytest.approx(100, abs=3)
    assert sharp.shifted_f0_median_cents == pytest.approx(600, abs=4)
    assert sharp.mel_l1 > 0.1


def test_phrases_are_held_out_and_the_same_every_time() -> None:
    first, again = ([*demo_phrases(2, 0, SPEC)] for _ in range(2))
    assert [sample.name for sample in first] == ["bruno_bass 0", "alma_alto 1"]
    assert all(torch.equal(a.audio, b.audio) for a, b in zip(first, again, strict=True))
    assert all(len(sample.audio) % 512 == 0 and len(sample.audio) > 5 * 44_100 for sample in first)


def test_recordings_are_spread_over_the_folder(tmp_path: Path) -> None:
    for index in range(6):
        write_audio(tmp_path / f"{index % 2}" / f"{index}.wav", vowel(200.0, 4)[:1800])
    samples = [*recordings(str(tmp_path), 3, SPEC)]
    assert [sample.name for sample in samples] == ["0/2.wav", "1/1.wav", "1/5.wav"]
    assert all(sample.audio.shape == (3 * 512,) for sample in samples)
    assert len([*recordings(str(tmp_path), None, SPEC)]) == 6
    with pytest.raises(UserError, match="no folder with recordings"):
        [*recordings(str(tmp_path / "nowhere"), None, SPEC)]


def _lacking() -> Any:
    raise UserError("task.checkpoint is not set")


def candidates() -> list[Candidate]:
    return [
        Candidate("griffin_lim", lambda: GriffinLim(iterations=2)),
        Candidate("trained", _lacking),
    ]


def task(**options: Any) -> CopySynthesis:
    console = Console(file=StringIO())
    given = {"candidates": candidates(), "console": console, **options}
    return CopySynthesis(audio=SPEC, pitch=ParselmouthPitch(), **given)


@pytest.mark.parametrize("with_pesq", [True, False])
def test_results_are_a_table_a_page_a_picture_and_sounds(
    tmp_path: Path, with_pesq: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_pesq and not pesq_is_there():
        pytest.skip("the package pesq is not installed")
    if not with_pesq:
        for module in ("scores", "copy_synthesis"):
            monkeypatch.setattr(f"svc.evaluation.vocoder.{module}.pesq_is_there", lambda: False)
    write_audio(tmp_path / "in" / "a.wav", vowel(220.0))
    said = task(phrases=0, recordings=str(tmp_path / "in")).run(tmp_path)
    with (tmp_path / "vocoder.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["vocoder"], row["sample"], row["group"]) == ("griffin_lim", "a.wav", RECORDINGS)
    assert 0 < float(row["mel_l1"]) < 2
    assert (row["pesq_wb"] == "") == (not with_pesq)
    assert ("not installed" in said) == (not with_pesq)
    assert "trained did not take part: task.checkpoint is not set" in said
    assert (tmp_path / "vocoder.md").read_text() in said
    assert (tmp_path / "vocoder_0.png").is_file()
    assert {p.name for p in (tmp_path / "audio" / RECORDINGS).iterdir()} == {
        "a.original.wav",
        "a.griffin_lim.wav",
    }


def test_what_cannot_work_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserErrors, match=r"There is no vocoder(?s:.*)trained: task.checkpoint"):
        task(candidates=candidates()[1:]).run(tmp_path)
    for options, message in (
        ({"phrases": 0}, "task.phrases=0"),
        ({"max_recordings": 0}, "task.max_recordings=0"),
        ({"shift_semitones": 30.0}, "task.shift_semitones=30"),
        ({"seed": -1}, "seed=-1"),
    ):
        with pytest.raises(UserError, match=message):
            task(**options)
    for make in (trained, untrained):
        with pytest.raises(UserError, match=r"task\.checkpoint is not set"):
            make(None, SPEC)


def test_an_untrained_vocoder_is_that_of_the_checkpoint_without_its_weights(
    tmp_path: Path, vocoder_checkpoint: Callable[[Path], NsfHifiGan]
) -> None:
    path = tmp_path / "v.ckpt"
    weights = vocoder_checkpoint(path).state_dict()
    loaded, fresh = trained(str(path), SPEC), untrained(str(path), SPEC, seed=1)
    again, other = untrained(str(path), SPEC, seed=1), untrained(str(path), SPEC, seed=2)
    states = [v.state_dict() for v in (loaded, fresh, again, other)]  # type: ignore[attr-defined]
    name = "input.parametrizations.weight.original1"
    assert torch.equal(states[0][name], weights[name])
    assert states[1][name].shape == weights[name].shape
    assert not torch.equal(states[1][name], weights[name])
    assert torch.equal(states[1][name], states[2][name])
    assert not torch.equal(states[1][name], states[3][name])


class TestPesq:
    def test_noise_lowers_it(self) -> None:
        pytest.importorskip("pesq", reason="needs the package pesq")
        (sample,) = demo_phrases(1, 0, SPEC)
        rng = torch.Generator().manual_seed(0)
        noise = torch.randn(sample.audio.shape, generator=rng)
        clean, little, much = (
            pesq_wideband(sample.audio + level * noise, sample.audio, 44_100)
            for level in (0.0, 0.002, 0.02)
        )
        assert clean == pytest.approx(4.64, abs=0.01)
        assert clean > little > much > 1

    def test_what_holds_no_utterance_has_none(self) -> None:
        pytest.importorskip("pesq", reason="needs the package pesq")
        assert math.isnan(pesq_wideband(torch.zeros(44_100), torch.zeros(44_100), 44_100))
        assert math.isnan(pesq_wideband(vowel(220.0, 5), vowel(220.0, 5), 44_100))

    def test_the_package_is_named_where_it_is_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pesq_module, "pesq_is_there", lambda: False)
        with pytest.raises(UserError, match=r"svc\[eval\]"):
            pesq_wideband(vowel(220.0), vowel(220.0), 44_100)
