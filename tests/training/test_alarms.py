"""Alarms: when they begin and end, what they say, and going back."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from svc.training.adversary import consult
from svc.training.callbacks import alarms
from svc.training.callbacks.alarms import TrainingAlarms
from svc.training.runs import fit
from svc.training.stopped import TrainingStopped
from training.tiny_training import TinyData, tiny_module, tiny_trainer


class Metrics:
    """A trainer and a module as far as alarms look at them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.callback_metrics: dict[str, Any] = {}
        self.global_step = 0
        self.is_global_zero = True
        self.log_every_n_steps = 1
        self.state = type("State", (), {"fn": "fit"})
        self.logged: list[dict[str, float]] = []
        monkeypatch.setattr(alarms, "log_metrics", lambda trainer, m, step: self.logged.append(m))
        self.module = tiny_module()

    def line(self, alarm: TrainingAlarms, **metrics: float) -> None:
        self.callback_metrics = {k.replace("__", "/"): v for k, v in metrics.items()}
        self.global_step += 1
        progress = self.module.progress
        self.module.progress = type(progress)(progress.batches_seen + 1, progress.skipped_steps)
        alarm.on_train_batch_end(self, self.module)  # type: ignore[arg-type]

    def validation(self, alarm: TrainingAlarms, loss: float) -> None:
        self.callback_metrics = {"valid_loss": loss}
        alarm.on_validation_end(self, self.module)  # type: ignore[arg-type]


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    return Metrics(monkeypatch)


def test_exploding_gradients(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    alarm = TrainingAlarms(exploding_factor=10)
    for norm in [2.0] * 12 + [19.0, float("nan"), 21.0, 30.0, 2.0]:
        metrics.line(alarm, grad_norm__generator=norm)
    assert metrics.logged == [{"alarm/exploding_gradients": 1.0}, {"alarm/exploding_gradients": 0}]
    (said,) = caplog.messages
    assert said.startswith("Step 15: gradients are many times larger")
    assert "lower optim.lr" in said


def test_nothing_is_made_of_the_first_lines(metrics: Metrics) -> None:
    alarm = TrainingAlarms(exploding_factor=10)
    for norm in (0.1, 500.0, 0.1, 900.0):
        metrics.line(alarm, grad_norm__generator=norm)
    assert metrics.logged == []


@pytest.mark.parametrize(
    ("accuracy", "name"), [(1.0, "discriminator_won"), (0.0, "discriminator_lost")]
)
def test_discriminators_that_are_pinned(metrics: Metrics, accuracy: float, name: str) -> None:
    alarm = TrainingAlarms(pinned_lines=3)
    for value in [accuracy, accuracy, 0.8, accuracy, accuracy]:
        metrics.line(alarm, disc_accuracy=value)
    assert metrics.logged == []
    metrics.line(alarm, disc_accuracy=accuracy)
    metrics.line(alarm)  # before discriminators join, and where there are none
    assert metrics.logged == [{f"alarm/{name}": 1.0}, {f"alarm/{name}": 0.0}]


def test_a_validation_that_diverges_and_one_that_does_not_improve(metrics: Metrics) -> None:
    alarm = TrainingAlarms(diverged_factor=2, patience_validations=3)
    for loss in [4.0, 1.0, 1.9, 2.1, 1.2, 0.9, float("nan")]:
        metrics.validation(alarm, loss)
    assert metrics.logged == [
        {"alarm/diverged": 1.0},
        {"alarm/diverged": 0.0, "alarm/overfitting": 1.0},
        {"alarm/overfitting": 0.0},
        {"alarm/diverged": 1.0},
    ]


def test_a_stopped_and_continued_run_judges_alike(metrics: Metrics) -> None:
    whole, first, second = (TrainingAlarms(pinned_lines=4) for _ in range(3))
    for _ in range(2):
        metrics.line(whole, disc_accuracy=1.0, grad_norm__generator=1.0)
        metrics.line(first, disc_accuracy=1.0, grad_norm__generator=1.0)
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        metrics.line(whole, disc_accuracy=1.0, grad_norm__generator=1.0)
        metrics.line(second, disc_accuracy=1.0, grad_norm__generator=1.0)
    assert second.state_dict()["_active"] == whole.state_dict()["_active"] == ["discriminator_won"]


class Poison(Callback):
    """Ruins the weights once, as a step that is too long does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.step = -1
            with torch.no_grad():
                for parameter in module.generator.parameters():
                    parameter.mul_(1e20)


@pytest.mark.parametrize("rollback", [False, True])
def test_going_back_mends_a_run(
    tmp_path: Path, rollback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    module = tiny_module(scheduler=None, optimizer=partial(torch.optim.AdamW, lr=1e-3))
    alarm = TrainingAlarms(rollback=rollback, rollback_lr_factor=0.25)
    trainer = tiny_trainer(tmp_path, 10, [Poison(4), alarm], validate_every_steps=2)
    with nullcontext() if rollback else pytest.raises(TrainingStopped):
        fit(trainer, module, TinyData())
    assert any("losses or gradients are NaN" in said for said in caplog.messages)
    if not rollback:
        return
    assert "Back to the weights of step 4 (best.ckpt)" in " ".join(caplog.messages)
    assert trainer.global_step == 10
    assert all(torch.isfinite(p).all() for p in module.parameters())
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    assert rates == [2.5e-4, 2.5e-4]


def test_smaller_rates_stay_where_a_schedule_is(tmp_path: Path) -> None:
    module = tiny_module()
    trainer = tiny_trainer(tmp_path, 4, validate_every_steps=2)
    fit(trainer, module, TinyData())
    for optimizer in trainer.optimizers:  # as in a run that went on with another setting
        optimizer.param_groups[0]["weight_decay"] = 0.25
    before = [scheduler.scheduler.base_lrs for scheduler in trainer.lr_scheduler_configs]
    rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
    step = alarms.go_back(trainer, module, tmp_path / "checkpoints" / "last.ckpt", 0.5)
    assert step == 4
    after = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
    assert after == [0.5 * rate for rate in rates]
    assert [o.param_groups[0]["weight_decay"] for o in trainer.optimizers] == [0.25, 0.25]
    halved = [scheduler.scheduler.base_lrs for scheduler in trainer.lr_scheduler_configs]
    assert halved == [[0.5 * rate for rate in rates] for rates in before]


def test_accuracy_counts_right_answers() -> None:
    def judge(audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        scores = audio[:, 0] * weight
        return scores, [scores]

    weight = torch.ones(1, requires_grad=True)
    module = torch.nn.Identity()
    module.forward = judge  # type: ignore[assignment, method-assign]
    verdict = consult(
        [module],
        real=torch.tensor([[[1.0, 0.9, 0.2, 0.8]]]),
        fake=torch.tensor([[[0.1, 0.7, 0.6, 0.9]]], requires_grad=True),
        generator_loss=lambda adversarial, matching: adversarial + matching,
        learn=lambda loss, parameters: None,
    )
    assert verdict.accuracy.item() == pytest.approx((0.75 + 0.25) / 2)


@pytest.mark.parametrize(
    "setting",
    [
        {"exploding_factor": 1.0},
        {"pinned_lines": 0},
        {"non_finite_share": 0.0},
        {"rollback_lr_factor": 1.5},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        TrainingAlarms(**setting)  # type: ignore[arg-type]


def test_dashboards_know_every_alarm_from_the_start(metrics: Metrics) -> None:
    alarm = TrainingAlarms(pinned_lines=1)
    metrics.line(alarm, disc_accuracy=1.0)
    metrics.logged.clear()
    alarm.on_train_start(metrics, metrics.module)  # type: ignore[arg-type]
    (states,) = metrics.logged
    names = ("non_finite", "exploding_gradients", "diverged", "overfitting", "discriminator_lost")
    assert states == {**{f"alarm/{name}": 0 for name in names}, "alarm/discriminator_won": 1}
    metrics.module.networks = ("generator",)  # type: ignore[misc]
    alarm.on_train_start(metrics, metrics.module)  # type: ignore[arg-type]
    assert "alarm/diverged" in metrics.logged[-1]
    assert not any("discriminator" in name for name in metrics.logged[-1])
