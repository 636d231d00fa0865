"""Overfitting and divergence are told, not guessed."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from svc.training.callbacks.checkpoints import LastAndBestCheckpoints
from svc.training.metric_logging import log_metrics, logging_is_due
from svc.training.network_module import NetworkModule

_logger = logging.getLogger(__name__)

_SETTLED_LINES, _REMEMBERED_LINES = 10, 50
"""Lines of metrics before gradient norms are judged, and how many they are judged by."""

_FEWEST_SKIPPED = 5
"""Skipped steps below which nothing is made of them: fp16 finds its loss scale by skipping."""

_ADVICE = {
    "non_finite": "losses or gradients are NaN or infinite in many steps: lower optim.lr, or train "
    "in bf16 or fp32 instead of fp16",
    "exploding_gradients": "gradients are many times larger than they were: lower optim.lr",
    "diverged": "the validation loss is not finite, or far above its best: lower optim.lr, or go "
    "back to checkpoints/best.ckpt",
    "discriminator_won": "the discriminators tell every recording from what is generated: the "
    "generator learns little from them; lower their learning rate, or add arch.adversarial."
    "r1_weight",
    "discriminator_lost": "the discriminators are always wrong: they learn nothing; raise their "
    "learning rate, or start them earlier",
    "overfitting": "the validation loss has not improved for long: stop here and take "
    "checkpoints/best.ckpt, or add recordings or augmentation",
}
ALARMS = tuple(_ADVICE)
"""Names of all alarms."""
_HARMFUL = ("non_finite", "exploding_gradients", "diverged")
"""Those that going back may mend."""


class TrainingAlarms(Callback):
    """Looks at the metrics of every line in the log, and says when something is wrong.

    An alarm is a warning in the log, and a metric `alarm/NAME` for dashboards: 0 at the start, 1
    where it begins, 0 where it ends. There are `non_finite`, `exploding_gradients`, `diverged`,
    `discriminator_won`, `discriminator_lost` and `overfitting`.

    Args:
        exploding_factor: gradient norm of the generator over the median of those before.
        diverged_factor: validation loss over the best so far.
        pinned_lines: lines in a row in which the discriminators' accuracy is above 0.99, or below
            0.01.
        patience_validations: validations in a row without a better loss.
        non_finite_share: of the steps since the last line that came to nothing.
        rollback: at one of the first three alarms, go back to the weights and optimisers of the
            best (else the last) checkpoint and go on from there with smaller learning rates; steps
            and data go on.
        rollback_lr_factor: of the learning rates each time.
        max_rollbacks: of a run.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        *,
        exploding_factor: float = 20.0,
        diverged_factor: float = 2.0,
        pinned_lines: int = 20,
        patience_validations: int = 20,
        non_finite_share: float = 0.5,
        rollback: bool = False,
        rollback_lr_factor: float = 0.5,
        max_rollbacks: int = 3,
    ) -> None:
        if not (exploding_factor > 1 and diverged_factor > 1):
            raise ValueError(
                f"exploding_factor={exploding_factor} and diverged_factor={diverged_factor} must "
                f"be above 1"
            )
        if min(pinned_lines, patience_validations) < 1 or max_rollbacks < 0:
            raise ValueError(
                f"pinned_lines={pinned_lines} and patience_validations={patience_validations} must "
                f"be at least 1, max_rollbacks={max_rollbacks} at least 0"
            )
        if not (0 < non_finite_share <= 1 and 0 < rollback_lr_factor <= 1):
            raise ValueError(
                f"non_finite_share={non_finite_share} and rollback_lr_factor={rollback_lr_factor} "
                f"must be above 0 and at most 1"
            )
        self.exploding_factor = exploding_factor
        self.diverged_factor = diverged_factor
        self.pinned_lines = pinned_lines
        self.patience_validations = patience_validations
        self.non_finite_share = non_finite_share
        self.rollback = rollback
        self.rollback_lr_factor = rollback_lr_factor
        self.max_rollbacks = max_rollbacks
        self._active: set[str] = set()
        self._norms: list[float] = []
        self._pinned = {"discriminator_won": 0, "discriminator_lost": 0}
        self._best, self._without_better = math.inf, 0
        self._line = self._batches = self._skipped = 0
        self._rollbacks = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have dashboards show every alarm that may come."""
        judged = getattr(pl_module, "networks", ())
        possible = [n for n in ALARMS if "discriminator" in judged or "discriminator" not in n]
        states = {f"alarm/{name}": float(name in self._active) for name in possible}
        log_metrics(trainer, states, trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Judge where a line has been logged, and where steps come to nothing."""
        if not isinstance(pl_module, NetworkModule):
            return
        found = {"non_finite": self._is_non_finite(pl_module)}
        is_line = logging_is_due(trainer) and trainer.global_step != self._line
        if is_line and pl_module.is_between_updates:
            self._line = trainer.global_step
            metrics = trainer.callback_metrics
            found["exploding_gradients"] = self._explodes(metrics)
            found |= dict(self._pinned_accuracy(metrics))
            self._batches = pl_module.progress.batches_seen
            self._skipped = pl_module.progress.skipped_steps
        elif not found["non_finite"]:
            return
        self._tell(trainer, pl_module, found)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge a validation."""
        if trainer.state.fn != "fit" or "valid_loss" not in trainer.callback_metrics:
            return
        score = float(trainer.callback_metrics["valid_loss"])
        diverged = not score < self.diverged_factor * self._best  # whose first value is infinite
        self._without_better = 0 if score < self._best else self._without_better + 1
        self._best = min(self._best, score) if math.isfinite(score) else self._best
        late = self._without_better >= self.patience_validations
        self._tell(trainer, pl_module, {"diverged": diverged, "overfitting": late and not diverged})

    def state_dict(self) -> dict[str, Any]:
        """Everything that a judgement depends on."""
        names = ("_norms", "_pinned", "_best", "_without_better", "_line", "_batches", "_skipped")
        state = {name: getattr(self, name) for name in (*names, "_rollbacks")}
        return {**state, "_active": sorted(self._active)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, value in state_dict.items():
            setattr(self, name, set(value) if name == "_active" else value)

    def _is_non_finite(self, module: NetworkModule) -> bool:
        skipped = module.progress.skipped_steps - self._skipped
        steps = module.progress.batches_seen - self._batches
        return skipped >= max(_FEWEST_SKIPPED, self.non_finite_share * steps)

    def _explodes(self, metrics: Any) -> bool:
        norm = float(metrics.get("grad_norm/generator", math.nan))
        if not math.isfinite(norm):
            return False  # such a step was skipped
        known = self._norms[-_REMEMBERED_LINES:]
        explodes = len(known) >= _SETTLED_LINES and norm > self.exploding_factor * median(known)
        self._norms = [*known, norm][-_REMEMBERED_LINES:]
        return explodes

    def _pinned_accuracy(self, metrics: Any) -> Iterator[tuple[str, bool]]:
        accuracy = float(metrics.get("disc_accuracy", math.nan))
        for name, pinned in (
            ("discriminator_won", accuracy > 0.99),
            ("discriminator_lost", accuracy < 0.01),
        ):
            self._pinned[name] = self._pinned[name] + 1 if pinned else 0
            yield name, self._pinned[name] >= self.pinned_lines

    def _tell(self, trainer: Trainer, module: LightningModule, found: dict[str, bool]) -> None:
        """Announce what has begun or ended, and go back where that is wanted."""
        begun = {name for name, present in found.items() if present} - self._active
        ended = {name for name, present in found.items() if not present} & self._active
        self._active = (self._active | begun) - ended
        if begun or ended:
            changes = {f"alarm/{name}": float(name in begun) for name in begun | ended}
            log_metrics(trainer, changes, trainer.global_step)
        for name in sorted(begun):
            if trainer.is_global_zero:
                _logger.warning("Step %d: %s.", trainer.global_step, _ADVICE[name])
        wanted = self.rollback and self._rollbacks < self.max_rollbacks
        harmful = bool(begun.intersection(_HARMFUL))
        if wanted and trainer.strategy.reduce_boolean_decision(harmful, all=False):
            self._roll_back(trainer, module)

    def _roll_back(self, trainer: Trainer, module: LightningModule) -> None:
        path = _checkpoint(trainer)
        if path is None:
            return
        self._rollbacks += 1
        self._active -= set(_HARMFUL)
        self._norms = []
        if isinstance(module, NetworkModule):
            self._batches = module.progress.batches_seen
            self._skipped = module.progress.skipped_steps
        step = go_back(trainer, module, path, self.rollback_lr_factor)
        if trainer.is_global_zero:
            _logger.warning(
                "Back to the weights of step %d (%s), with learning rates times %g (%d of %d).",
                step,
                path.name,
                self.rollback_lr_factor,
                self._rollbacks,
                self.max_rollbacks,
            )


def go_back(trainer: Trainer, module: LightningModule, path: Path, lr_factor: float) -> int:
    """Take weights and what optimisers remember from a checkpoint, and smaller learning rates from
    now on. Other options of the optimisers stay: the checkpoint may be older than a change of them.

    Args:
        trainer: goes on counting where it is.
        module: of that run.
        path: of the checkpoint.
        lr_factor: of the learning rates as they are now.

    Returns:
        The step of the checkpoint.
    """
    options = [
        [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        for optimizer in trainer.optimizers
    ]
    # To the device go but the weights themselves: it may have no room for all of it once more.
    checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    trainer.strategy.load_model_state_dict(checkpoint)
    trainer.strategy.load_optimizer_state_dict(checkpoint)
    for optimizer, of_groups in zip(trainer.optimizers, options, strict=True):
        for group, present in zip(optimizer.param_groups, of_groups, strict=True):
            group.update(present)
            for name in {"lr", "initial_lr"} & group.keys():
                group[name] *= lr_factor
    for config in trainer.lr_scheduler_configs:
        scheduler = config.scheduler
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs = [rate * lr_factor for rate in scheduler.base_lrs]
    return int(checkpoint["global_step"])


def _checkpoint(trainer: Trainer) -> Path | None:
    """The best checkpoint of the run, else the last, else None."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, LastAndBestCheckpoints):
            for path in (callback.best_path, callback.last_path):
                if path.is_file():
                    return path
    return None
