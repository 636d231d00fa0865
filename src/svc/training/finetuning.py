"""From the weights of another training to a network that learns on: what is kept, what is new, and
what may learn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from svc.checkpoints.adapters import SPEAKER_TABLE
from svc.checkpoints.facts import REMOVED_SPEAKER
from svc.checkpoints.model_file import load_weights
from svc.errors import UserError, UserErrors
from svc.models.lora import add_lora
from svc.training.network_module import NetworkModule
from svc.training.sharded_tensors import divided_like, local_part

SpeakerMode = Literal["replace", "add"]


@dataclass(frozen=True)
class SpeakerPlan:
    """The speaker table of a fine-tuning."""

    names: tuple[str, ...]
    """Of all rows, in order."""
    new: tuple[str, ...]
    """Those that the pretrained model does not know."""
    kept_rows: tuple[int, ...]
    """Rows of voices that the dataset has nothing of; only those of mode "add" have any."""


def plan_speakers(known: Sequence[str], dataset: Sequence[str], mode: SpeakerMode) -> SpeakerPlan:
    """Which rows the table has.

    Args:
        known: table of the pretrained model; `REMOVED_SPEAKER` where a name is gone.
        dataset: speakers of the recordings.
        mode: "replace" has just the dataset's speakers; "add" has all that are known, at their
            places, and new ones after them.
    """
    new = tuple(name for name in dataset if name not in known)
    if mode == "replace":
        return SpeakerPlan(tuple(dataset), new, ())
    rows = tuple(index for index, name in enumerate(known) if name not in dataset)
    return SpeakerPlan((*known, *new), new, rows)


def load_pretrained(
    generator: nn.Module, weights: Mapping[str, Tensor], known: Sequence[str], plan: SpeakerPlan
) -> None:
    """Give a network the weights of a pretrained one of the same shape.

    The speaker table is put together anew: voices that both know keep their row, new ones begin at
    the mean of the rows that were trained.

    Raises:
        UserError: the weights do not fit.
    """
    state = dict(weights)
    if SPEAKER_TABLE in state:
        state[SPEAKER_TABLE] = speaker_rows(state[SPEAKER_TABLE], known, plan)
    load_weights(generator, state, "the pretrained file")


def speaker_rows(table: Tensor, known: Sequence[str], plan: SpeakerPlan) -> Tensor:
    """Rows of the names in a plan, [S, C], out of those of the names that are known."""
    named = [index for index, name in enumerate(known) if name != REMOVED_SPEAKER]
    mean = table[named].mean(0) if named else table.new_zeros(table.shape[1])
    place = {name: index for index, name in enumerate(known) if name != REMOVED_SPEAKER}
    rows = []
    for index, name in enumerate(plan.names):
        if name in place:
            rows.append(table[place[name]])
        elif name == REMOVED_SPEAKER:
            rows.append(table[index])
        else:
            rows.append(mean)
    return torch.stack(rows)


def freeze(network: nn.Module, patterns: Sequence[str]) -> int:
    """Take parameters out of the training by their names.

    Args:
        network: whose parameters they are.
        patterns: such as "decoder.*"; a star stands for anything.

    Returns:
        How many numbers are frozen.

    Raises:
        UserErrors: a pattern matches nothing, or nothing is left to learn.
    """
    parameters = dict(network.named_parameters())
    faults = []
    for pattern in patterns:
        matching = [name for name in parameters if fnmatchcase(name, pattern)]
        if not matching:
            tops = sorted({name.partition(".")[0] for name in parameters})
            near = get_close_matches(pattern.partition(".")[0], tops, n=1)
            hint = f"; did you mean {near[0]}.*?" if near else f"; it has {', '.join(tops)}"
            faults.append(f"{pattern} matches no weight of the model{hint}")
        for name in matching:
            parameters[name].requires_grad_(False)
    if not faults and not any(p.requires_grad for p in parameters.values()):
        faults.append("nothing is left to learn; leave a pattern out")
    if faults:
        raise UserErrors(f"finetune.freeze={list(patterns)} cannot be used:", faults)
    return sum(p.numel() for p in parameters.values() if not p.requires_grad)


def learn_only_speakers(generator: nn.Module) -> None:
    """Freeze everything but the speaker table.

    Raises:
        UserError: the network has none.
    """
    if SPEAKER_TABLE not in dict(generator.named_parameters()):
        raise UserError(
            "finetune.train=speakers: this model has no speakers; leave it out, or choose a model "
            "that converts."
        )
    for name, parameter in generator.named_parameters():
        parameter.requires_grad_(name == SPEAKER_TABLE)


def learn_by_lora(
    generator: nn.Module, rank: int, alpha: float | None, targets: Sequence[str]
) -> list[str]:
    """Add low-rank updates; they and the speaker table learn, everything else is frozen.

    Returns:
        Names of the weights that are adapted.

    Raises:
        UserError: the model has no such parts.
    """
    generator.requires_grad_(False)
    try:
        adapted = add_lora(generator, rank, alpha, targets)
    except ValueError as error:
        raise UserError(f"lora: {error}") from error
    for name, parameter in generator.named_parameters():
        is_update = name.endswith((".up", ".down")) and ".parametrizations." in name
        parameter.requires_grad_(is_update or name == SPEAKER_TABLE)
    return adapted


class KeepSpeakerRows(Callback):
    """Leaves rows of the speaker table as they are, to the bit, whatever the optimiser does to
    them: momentum and weight decay move rows that have no gradient.

    Args:
        rows: that are kept.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = list(rows)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put them back right after every step, before the moving average sees them."""
        if not self.rows or not isinstance(pl_module, NetworkModule):
            return
        table = dict(pl_module.generator.named_parameters())[SPEAKER_TABLE]
        is_kept = torch.zeros(table.shape, dtype=torch.bool, device=table.device)
        is_kept[self.rows] = True
        kept = local_part(divided_like(is_kept, table))
        saved = local_part(table.detach()).clone()

        def put_back(*_: Any) -> None:
            mine = local_part(table.detach())
            mine.copy_(torch.where(kept, saved, mine))

        trainer.optimizers[0].register_step_post_hook(put_back)
