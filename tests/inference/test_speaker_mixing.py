"""Voices between those of a model: what is typed, what the model is given, what is heard."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from svc.errors import UserError
from svc.inference.converter import Converter
from svc.inference.speaker_mixing import (
    SpeakerCurve,
    SpeakerMix,
    parse_mix,
    resolve_voice,
    speaker_input,
)

SPEAKERS = ["anna", "bert", "", "x:y"]
AUDIO = 0.1 * torch.sin(torch.arange(2 * 44_100) * 0.03)
HOP = 512
ANNA, BERT = SpeakerMix({"anna": 1.0}), SpeakerMix({"bert": 1.0})


class TestTyped:
    @pytest.mark.parametrize(
        ("text", "shares"),
        [
            ("anna", {"anna": 1.0}),
            ("anna:3", {"anna": 1.0}),
            ("anna:0.7,bert:0.3", {"anna": 0.7, "bert": 0.3}),
            (" anna : 30, bert: 10 ", {"anna": 0.75, "bert": 0.25}),
            ("anna:1,bert:0", {"anna": 1.0}),
            ("x:y", {"x:y": 1.0}),
            ("x:y:1,anna:1", {"x:y": 0.5, "anna": 0.5}),
        ],
    )
    def test_shares_add_up_to_one(self, text: str, shares: dict[str, float]) -> None:
        assert parse_mix(text, SPEAKERS).shares == pytest.approx(shares)

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("anne:1,bert:1", ["anne is not in this model; it knows: anna, bert, x:y. Did you"]),
            ("anna:-0.1,bert:1.1", ["the share of anna is -0.1"]),
            ("anna:nan,bert:1", ["the share of anna is nan"]),
            ("anna:inf,bert:1", ["the share of anna is inf"]),
            ("anna:half,bert:", ["the share of anna is half", "the share of bert is missing"]),
            ("anna:0,bert:0", ["add up to 0; at least one must be above 0"]),
            ("anna:1e308,bert:1e308", ["add up to inf"]),
            ("anna:0.5,anna:0.5", ["anna is named twice"]),
            ("anna,bert", ["anna has no share; write anna:0.5", "bert has no share"]),
            ("anna:1,", ["a name is missing"]),
            (":1,anna:1", [" is not in this model"]),
            ("", ["a name is missing"]),
            ("zoe", ["speaker=zoe is not in this model; it knows: anna, bert, x:y."]),
            ("zoe:1,yan:x", ["zoe is not in", "yan is not in", "the share of yan is x"]),
        ],
    )
    def test_all_that_is_wrong_is_named(self, text: str, parts: list[str]) -> None:
        with pytest.raises(UserError) as caught:
            parse_mix(text, SPEAKERS)
        assert f"speaker={text}" in str(caught.value)
        for part in parts:
            assert part in str(caught.value)

    def test_a_removed_speaker_is_no_voice(self) -> None:
        assert resolve_voice(None, ["", "anna"]) == ANNA
        with pytest.raises(UserError, match="knows 2: choose one of anna, bert, or mix them"):
            resolve_voice(None, ["anna", "", "bert"])

    def test_a_voice_is_checked_as_well(self) -> None:
        assert resolve_voice(BERT, SPEAKERS) is BERT
        with pytest.raises(UserError, match="speaker=bert is not in this model; it knows: anna"):
            resolve_voice(SpeakerCurve([0, 1], [ANNA, BERT], "c"), ["anna"])

    def test_programmers_keep_to_the_rules(self) -> None:
        for shares in ({}, {"a": 2.0}, {"a": 1.5, "b": -0.5}, {"a": float("nan")}):
            with pytest.raises(ValueError, match="add up to 1"):
                SpeakerMix(shares)
        for times_s in ([], [1.0, 0.5], [-1.0, 0.0], [0.0, float("nan")], [0.0, float("inf")]):
            with pytest.raises(ValueError, match="in order"):
                SpeakerCurve(times_s, [ANNA] * len(times_s), "c")
        with pytest.raises(ValueError, match="1 mixes"):
            SpeakerCurve([0.0, 1.0], [ANNA], "c")

    def test_labels_are_names_of_files(self) -> None:
        assert ANNA.label == "anna"
        assert parse_mix("anna:2,bert:1", SPEAKERS).label == "anna-66.7_bert-33.3"
        crowd = [f"singer_{index:03}" for index in range(60)]
        many = parse_mix(",".join(f"{name}:1" for name in crowd), crowd).label
        assert re.fullmatch(r"mix-[0-9a-f]{8}", many)


class TestGiven:
    TABLE = torch.eye(4)

    def given(self, voice: SpeakerMix | SpeakerCurve, **settings: object) -> Tensor:
        return speaker_input(
            voice,
            SPEAKERS,
            self.TABLE,
            frames=8,
            frame_rate_hz=2.0,
            **settings,  # type: ignore[arg-type]
        )

    def test_one_alone_is_an_index(self) -> None:
        for voice in (BERT, SpeakerCurve([1, 2], [BERT, BERT], "c")):
            assert torch.equal(self.given(voice), torch.tensor([1]))
        late = SpeakerCurve([10, 20], [BERT, ANNA], "c")  # after the end of the recording
        assert torch.equal(self.given(late, interpolation="spherical"), torch.tensor([1]))

    def test_a_fixed_mix_is_one_row(self) -> None:
        mix = parse_mix("anna:1,x:y:3", SPEAKERS)
        assert torch.equal(self.given(mix), torch.tensor([[0.25, 0, 0, 0.75]]))
        swapped = parse_mix("x:y:3,anna:1", SPEAKERS)
        for interpolation in ("linear", "spherical"):
            both = [self.given(voice, interpolation=interpolation) for voice in (mix, swapped)]
            assert torch.equal(*both)

    def test_a_curve_is_a_row_for_the_middle_of_each_frame(self) -> None:
        weights = self.given(SpeakerCurve([1.0, 3.0], [ANNA, BERT], "c"))
        share = torch.tensor([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1])  # at 0.25, 0.75, … s
        assert weights.shape == (1, 8, 4)
        torch.testing.assert_close(weights[0, :, 1], share)
        torch.testing.assert_close(weights[0].sum(1), torch.ones(8))
        round_about = self.given(
            SpeakerCurve([1.0, 3.0], [ANNA, BERT], "c"), interpolation="spherical"
        )
        torch.testing.assert_close(round_about[0].norm(dim=1), torch.ones(8))
        torch.testing.assert_close(round_about[0, :, 1], (share * torch.pi / 2).sin())
        assert torch.equal(round_about[0, [0, 1, 6, 7]], weights[0, [0, 1, 6, 7]])

    def test_equal_times_are_a_jump(self) -> None:
        weights = self.given(SpeakerCurve([0, 2, 2], [ANNA, ANNA, BERT], "c"))
        assert torch.equal(weights[0, :, 1], torch.tensor([0.0, 0, 0, 0, 1, 1, 1, 1]))

    def test_an_unknown_way_between(self) -> None:
        with pytest.raises(UserError, match="speaker_interpolation=cubic: choose one of line"):
            self.given(ANNA, interpolation="cubic")


@pytest.fixture(params=["hifisinger", "diffsvc"])
def path(request: pytest.FixtureRequest, checkpoint: Callable[..., Path]) -> Path:
    return checkpoint(request.param)


class TestHeard:
    def test_a_mix_with_nobody_is_the_voice_itself(self, path: Path) -> None:
        converter = Converter.from_checkpoint(path, device="cpu")
        alone = converter.convert(AUDIO, 44_100, speaker="anna")
        mix = converter.convert(AUDIO, 44_100, speaker="anna:1,bert:0")
        assert torch.equal(mix, alone)
        assert not torch.equal(converter.convert(AUDIO, 44_100, speaker="bert"), alone)

    @pytest.mark.parametrize("interpolation", ["linear", "spherical"])
    def test_a_mix_is_its_own_voice_in_either_order(self, path: Path, interpolation: str) -> None:
        converter = Converter.from_checkpoint(path, device="cpu")

        def convert(speaker: str) -> Tensor:
            return converter.convert(
                AUDIO,
                44_100,
                speaker=speaker,
                speaker_interpolation=interpolation,  # type: ignore[arg-type]
            )

        mix = convert("anna:0.5,bert:0.5")
        assert mix.isfinite().all()
        assert torch.equal(mix, convert("bert:2,anna:2"))
        for other in ("anna", "bert", "anna:0.7,bert:0.3"):
            assert not torch.equal(mix, convert(other))

    def test_linear_and_spherical_differ(self, path: Path) -> None:
        converter = Converter.from_checkpoint(path, device="cpu")
        ways = [
            converter.convert(AUDIO, 44_100, speaker="anna:1,bert:1", speaker_interpolation=way)  # type: ignore[arg-type]
            for way in ("linear", "spherical")
        ]
        assert not torch.allclose(*ways, atol=1e-5)

    def test_first_one_voice_then_the_other(self, path: Path) -> None:
        converter = Converter.from_checkpoint(path, device="cpu", match_level=False)
        change = SpeakerCurve([1.0, 1.0], [ANNA, BERT], "change")
        first, then, both = (
            converter.convert(AUDIO, 44_100, speaker=voice) for voice in ("anna", "bert", change)
        )
        steps = 3 if "diffsvc" in path.name else 1  # each looks around anew
        reach = steps * converter.singer.receptive_frames * HOP
        border = 44_100
        assert reach < border - 4096
        torch.testing.assert_close(
            both[: border - reach], first[: border - reach], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            both[border + reach :], then[border + reach :], atol=1e-5, rtol=0
        )
        assert float((first - then).abs().max()) > 1e-3

    def test_joints_of_a_moving_voice_are_not_heard(
        self, make_converter: Callable[..., Converter]
    ) -> None:
        audio = torch.cat([AUDIO, AUDIO])
        curve = SpeakerCurve([0.5, 3.5], [ANNA, BERT], "move")
        whole, pieces = (
            make_converter(**settings).convert(
                audio, 44_100, speaker=curve, speaker_interpolation="spherical"
            )
            for settings in ({}, {"max_chunk_s": 1.5})
        )
        torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=0)

    def test_the_refining_model_mixes_with_its_own_table(
        self, checkpoint: Callable[..., Path]
    ) -> None:
        first, refiner = checkpoint("hifisinger"), checkpoint("diffsvc")
        swapped = checkpoint("diffsvc", "swapped", speakers=("bert", "anna"))
        curve = SpeakerCurve([0.5, 1.5], [ANNA, BERT], "move")

        def convert(path: Path, voice: str | SpeakerCurve) -> Tensor:
            converter = Converter.from_checkpoint(first, device="cpu", refine_checkpoint=path)
            return converter.convert(AUDIO, 44_100, speaker=voice)

        voices: tuple[str | SpeakerCurve, ...] = ("anna:0.8,bert:0.2", curve)
        wanted = [convert(refiner, voice) for voice in voices]
        assert not torch.allclose(convert(swapped, voices[0]), wanted[0], atol=1e-4)
        state = torch.load(swapped, weights_only=True)
        name = "generator.conditioner.speaker.weight"
        state["state_dict"][name] = state["state_dict"][name].flip(0)
        torch.save(state, swapped)
        for voice, audio in zip(voices, wanted, strict=True):
            torch.testing.assert_close(convert(swapped, voice), audio, atol=1e-5, rtol=0)

    def test_the_refining_model_must_know_every_voice(
        self, checkpoint: Callable[..., Path]
    ) -> None:
        converter = Converter.from_checkpoint(
            checkpoint("hifisinger"),
            device="cpu",
            refine_checkpoint=checkpoint("diffsvc", speakers=("anna", "")),
        )
        with pytest.raises(UserError, match="bert is not in the refining model; it knows: anna"):
            converter.convert(AUDIO, 44_100, speaker="anna:0.9,bert:0.1")
