"""Which settings count as changed in a run that goes on."""

from typing import Any

import pytest

from svc.training.run_changes import changes_between


def lines(recorded: dict[str, Any], present: dict[str, Any]) -> list[str]:
    return [str(change) for change in changes_between(recorded, present)]


def test_every_change_is_listed_with_both_values() -> None:
    recorded = {"arch": {"sizes": [8, 8], "lr": 1e-4}, "seed": 1, "name": "1"}
    present = {"arch": {"sizes": [8], "lr": 1e-4, "ema": 0.9}, "seed": "1", "name": None}
    assert lines(recorded, present) == [
        "arch.ema: absent → 0.9",
        "arch.sizes: [8, 8] → [8]",
        "name: 1 → null",
        "seed: 1 → '1'",
    ]
    assert lines(present, present) == []


def test_long_paths_are_told_apart_by_their_ends() -> None:
    folder = f"/home/{'x' * 100}"
    (line,) = lines({"path": f"{folder}/voices"}, {"path": f"{folder}/elsewhere"})
    was, now = line.split(" → ")
    assert was.startswith("path: /home/x")
    assert was.endswith("/voices")
    assert now.endswith("/elsewhere")
    assert len(now) < 80


@pytest.mark.parametrize(
    "harmless",
    [
        {"resume": {"checkpoint": "auto"}},
        {"paths": {"run_dir": "/elsewhere"}},
        {"logger": {"csv": {"x": 1}}, "callbacks": {"progress": None}, "run_name": "other"},
        {"data": {"workers": 3, "cache": "ram"}},
        {"trainer": {"max_steps": 9, "log_every_steps": 1, "limit_val_batches": 2}},
        {"trainer": {"accelerator": "gpu", "compile": True, "benchmark": True}},
        {"offline": True, "pitch": {"members": {"a": {"offline": True, "device": "cuda"}}}},
        {"content": {"device": "cuda", "batch_size": 3}, "optim": {"fused": False}},
        {"licence": "CC0"},
    ],
    ids=lambda changed: ",".join(changed),
)
def test_what_does_not_change_what_is_learnt_may_differ(harmless: dict[str, Any]) -> None:
    assert lines({}, harmless) == []
    assert lines(harmless, {}) == []


@pytest.mark.parametrize(
    "key",
    ["seed", "trainer.precision", "trainer.devices", "data.batch_size", "pathsx", "optim.lr"],
)
def test_what_changes_it_may_not(key: str) -> None:
    group, _, name = key.rpartition(".")
    one, other = ({group: {name: v}} if group else {name: v} for v in (1, 2))
    assert lines(one, other) == [f"{key}: 1 → 2"]


def test_a_setting_that_the_run_did_not_know_counts_as_its_default() -> None:
    trainer = {"_target_": "svc.training.trainer.build_trainer", "devices": 2}
    schedule = {"_target_": "svc.training.schedules.exponential_decay", "gamma": 0.5}
    recorded = {"trainer": trainer, "scheduler": schedule}
    grown = {
        "trainer": {**trainer, "accumulate_grad_batches": 1},
        "scheduler": {**schedule, "every_steps": 1000},
        "finetune": {"speakers": "replace", "freeze": []},
        "lora": {"rank": 0},
        "pretrained": None,
    }
    assert lines(recorded, grown) == []
    assert lines(grown, recorded) == []
    grown["trainer"]["accumulate_grad_batches"] = 2
    grown["lora"]["rank"] = 8
    assert lines(recorded, grown) == ["lora.rank: 0 → 8", "trainer.accumulate_grad_batches: 1 → 2"]


def test_another_class_has_other_settings() -> None:
    schedules = "svc.training.schedules"
    one = {"scheduler": {"_target_": f"{schedules}.exponential_decay", "gamma": 0.999}}
    other = {"scheduler": {"_target_": f"{schedules}.warmup_cosine", "warmup_steps": 10}}
    assert lines(one, other) == [
        f"scheduler._target_: {schedules}.exponential_decay → {schedules}.warmup_cosine",
        "scheduler.gamma: 0.999 → absent",
        "scheduler.warmup_steps: absent → 10",
    ]
    assert "scheduler.gamma: 0.999 → absent" in lines(one, {"scheduler": None})


def test_what_the_checkpoint_would_overrule_cannot_change() -> None:
    recorded = {"lora": {"rank": 8}, "pretrained": "a.ckpt", "optim": {"_target_": "A", "lr": 1}}
    present = {"lora": {"rank": 4}, "pretrained": "b.ckpt", "optim": {"_target_": "B", "lr": 2}}
    fixed = {change.key: change.fixed for change in changes_between(recorded, present)}
    assert fixed.pop("optim.lr") is None
    assert all(fixed.values())
    assert sorted(fixed) == ["lora.rank", "optim._target_", "pretrained"]
