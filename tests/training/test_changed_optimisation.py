"""New settings of optimiser and schedule hold from the first update after a run goes on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from svc.training.callbacks.changed_optimisation import ChangedOptimisation
from svc.training.runs import fit
from svc.training.schedules import exponential_decay, step_decay
from training.test_resume import assert_same, state
from training.tiny_training import TinyData, tiny_module, tiny_trainer

BEGUN, STEPS = 4, 7
ADAMW = partial(torch.optim.AdamW, lr=1e-3, betas=[0.8, 0.99])
HALVED = partial(exponential_decay, gamma=0.5, every_steps=4)


class Rates(Callback):
    """Learning rates with which the generator and the discriminators learnt, by batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, ...]] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        groups = [optimizer.param_groups[0] for optimizer in trainer.optimizers]
        self.seen.append(tuple(group["lr"] for group in groups))


def train(
    run_dir: Path,
    steps: int,
    resume_from: Path | None = None,
    callback: Callback | None = None,
    **options: Any,
) -> Rates:
    rates = Rates()
    callbacks = [rates, *([callback] if callback else [])]
    trainer = tiny_trainer(run_dir, steps, callbacks, save_every_steps=1)
    module = tiny_module(**{"optimizer": ADAMW, "scheduler": HALVED, **options})
    fit(trainer, module, TinyData(), resume_from)
    assert trainer.global_step == steps
    return rates


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a run of four updates, with a schedule or without."""
    torch.set_num_threads(1)
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            run_dir = tmp_path_factory.mktemp(kind)
            train(run_dir, BEGUN, scheduler=HALVED if kind == "scheduled" else None)
            made[kind] = run_dir / "checkpoints" / "last.ckpt"
        return made[kind]

    return of


def test_a_new_rate_counts_from_the_first_update(
    begun: Callable[[str], Path], tmp_path: Path
) -> None:
    lower = partial(ADAMW, lr=1e-4)
    changed = ChangedOptimisation({"lr"}, schedule=False)
    rates = train(tmp_path, STEPS, begun("scheduled"), changed, optimizer=lower)
    expected = [1e-4 * 0.5 ** (step / 4) for step in range(BEGUN, STEPS)]
    for of_network in zip(*rates.seen, strict=True):
        assert of_network == pytest.approx(expected, rel=1e-12)


def test_without_it_the_checkpoint_would_overrule(
    begun: Callable[[str], Path], tmp_path: Path
) -> None:
    rates = train(tmp_path, STEPS, begun("scheduled"), optimizer=partial(ADAMW, lr=1e-4))
    assert rates.seen[0][0] == pytest.approx(5e-4)


@pytest.mark.parametrize("before", ["scheduled", "constant"])
@pytest.mark.parametrize("torchs_own", [False, True])
def test_a_new_schedule_is_where_it_would_be(
    begun: Callable[[str], Path], tmp_path: Path, before: str, torchs_own: bool
) -> None:
    schedule: Any = partial(step_decay, gamma=0.1, every_steps=2)
    if torchs_own:
        schedule = partial(torch.optim.lr_scheduler.StepLR, gamma=0.1, step_size=2)
    changed = ChangedOptimisation((), schedule=True)
    rates = train(tmp_path, STEPS, begun(before), changed, scheduler=schedule)
    expected = [1e-3 * 0.1 ** (step // 2) for step in range(BEGUN, STEPS)]
    assert [generator for generator, _ in rates.seen] == pytest.approx(expected, rel=1e-9)


def test_a_schedule_can_be_left_out(begun: Callable[[str], Path], tmp_path: Path) -> None:
    changed = ChangedOptimisation((), schedule=True)
    rates = train(tmp_path, STEPS, begun("scheduled"), changed, scheduler=None)
    assert set(rates.seen) == {(1e-3, 1e-3)}
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["lr_schedulers"] == []


def test_other_options_change_and_rates_stay(begun: Callable[[str], Path], tmp_path: Path) -> None:
    decaying = partial(ADAMW, betas=[0.5, 0.9], weight_decay=0.25)
    changed = ChangedOptimisation({"betas", "weight_decay"}, schedule=False)
    rates = train(tmp_path, STEPS, begun("scheduled"), changed, optimizer=decaying)
    assert rates.seen[0][0] == pytest.approx(5e-4)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    for optimizer in saved["optimizer_states"]:
        (group,) = optimizer["param_groups"]
        assert (list(group["betas"]), group["weight_decay"]) == ([0.5, 0.9], 0.25)
        steps = {int(of_weight["step"]) for of_weight in optimizer["state"].values()}
        assert steps == {STEPS}, "what it remembers stays"


def test_settings_as_they_were_change_nothing(begun: Callable[[str], Path], tmp_path: Path) -> None:
    """The schedule that was walked anew is the one that was saved, to the bit."""
    train(tmp_path / "as it is", STEPS, begun("scheduled"))
    changed = ChangedOptimisation({"lr", "betas"}, schedule=True)
    train(tmp_path / "renewed", STEPS, begun("scheduled"), changed)
    last = Path("checkpoints") / "last.ckpt"
    assert_same(state(tmp_path / "renewed" / last), state(tmp_path / "as it is" / last))
