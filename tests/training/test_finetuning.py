"""What fine-tuning keeps, what is new, and what may learn."""

from functools import partial
from pathlib import Path

import pytest
import torch

from svc.errors import UserError, UserErrors
from svc.training.finetuning import (
    SPEAKER_TABLE,
    KeepSpeakerRows,
    SpeakerPlan,
    freeze,
    learn_by_lora,
    learn_only_speakers,
    load_pretrained,
    plan_speakers,
    speaker_rows,
)
from svc.training.runs import fit
from training.tiny_training import TinyData, tiny_generator, tiny_module, tiny_trainer


def test_the_table_of_a_new_dataset() -> None:
    plan = plan_speakers(["ada", "ben", ""], ["ben", "cleo"], "replace")
    assert plan == SpeakerPlan(("ben", "cleo"), ("cleo",), ())
    added = plan_speakers(["ada", "ben", ""], ["ben", "cleo"], "add")
    assert added == SpeakerPlan(("ada", "ben", "", "cleo"), ("cleo",), (0, 2))


@pytest.mark.parametrize("mode", ["replace", "add"])
def test_known_voices_keep_their_row_and_new_ones_begin_at_the_mean(mode: str) -> None:
    table = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    known = ["ada", "ben", ""]
    rows = speaker_rows(table, known, plan_speakers(known, ["ben", "cleo"], mode))  # type: ignore[arg-type]
    mean = [2.0, 2.0]  # of those that have a name
    if mode == "replace":
        assert rows.tolist() == [[3, 4], mean]
    else:
        assert rows.tolist() == [[1, 0], [3, 4], [0, 0], mean]


def test_weights_that_do_not_fit_are_refused() -> None:
    weights = dict(tiny_generator().state_dict())
    plan = SpeakerPlan(("ada", "ben"), (), ())
    load_pretrained(tiny_generator(), weights, ["ada", "ben"], plan)
    weights["mel_projection.weight"] = torch.zeros(3, 3)
    with pytest.raises(UserError, match=r"do not fit[^\n]*\n[^\n]*mel_projection\.weight"):
        load_pretrained(tiny_generator(), weights, ["ada", "ben"], plan)


def test_freezing_by_pattern() -> None:
    generator = tiny_generator()
    frozen = freeze(generator, ["decoder.*", "conditioner.pitch.weight"])
    names = {name for name, p in generator.named_parameters() if not p.requires_grad}
    assert "conditioner.pitch.weight" in names
    assert "conditioner.pitch.bias" not in names
    assert {name for name in names if name.startswith("decoder.")} == {
        name for name, _ in generator.named_parameters() if name.startswith("decoder.")
    }
    assert frozen == sum(p.numel() for p in generator.parameters() if not p.requires_grad)


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["decodr.*"], r"decodr\.\* matches no weight.*did you mean decoder\.\*"),
        (["zzz"], "it has backbone, conditioner, decoder, mel_projection"),
        (["*"], "nothing is left to learn"),
    ],
)
def test_patterns_that_make_no_sense_are_refused(patterns: list[str], said: str) -> None:
    with pytest.raises(UserErrors, match=said):
        freeze(tiny_generator(), patterns)


def test_a_model_without_speakers_cannot_learn_them() -> None:
    with pytest.raises(UserError, match=r"finetune\.train=speakers: this model has no speakers"):
        learn_only_speakers(tiny_generator().decoder)


def test_targets_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match=r"lora: .*wavnet"):
        learn_by_lora(tiny_generator(), 2, None, ["wavnet"])


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9)])
def test_other_voices_stay_to_the_bit(tmp_path: Path, optimizer: object) -> None:
    """Under momentum and weight decay, and though their row is trained on."""
    generator = tiny_generator()
    learn_only_speakers(generator)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    module = tiny_module(generator, optimizer=partial(optimizer, lr=0.1, weight_decay=0.1))  # type: ignore[call-overload]
    fit(tiny_trainer(tmp_path, 4, [KeepSpeakerRows([0])]), module, TinyData())
    for network in (module.generator, module.ema.network):
        after = network.state_dict()
        for name, value in before.items():
            if name != SPEAKER_TABLE:
                assert torch.equal(after[name], value), name
        assert torch.equal(after[SPEAKER_TABLE][0], before[SPEAKER_TABLE][0])
        assert not torch.equal(after[SPEAKER_TABLE][1], before[SPEAKER_TABLE][1])


def test_lora_and_speakers_alone_learn(tmp_path: Path) -> None:
    generator = tiny_generator()
    adapted = learn_by_lora(generator, 2, None, ["conditioner", "backbone"])
    assert "backbone.blocks.0.dilated.weight" in adapted
    names = {name for name, p in generator.named_parameters() if p.requires_grad}
    assert SPEAKER_TABLE in names
    assert all(name == SPEAKER_TABLE or name.endswith((".up", ".down")) for name in names)
