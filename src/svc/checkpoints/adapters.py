"""Adapters out of the checkpoints of LoRA trainings, and into the weights of their base."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from svc.checkpoints.adapter_file import Adapter, AdapterFacts, base_fingerprint, read_adapter
from svc.checkpoints.facts import parent_of
from svc.checkpoints.model_file import ModelFile
from svc.checkpoints.training_checkpoint import load_trained_state
from svc.errors import UserError
from svc.models.lora import split_lora_state

_logger = logging.getLogger(__name__)

SPEAKER_TABLE = "conditioner.speaker.weight"
"""[S, C], in every model that converts."""


def adapter_of(path: Path) -> Adapter:
    """What a LoRA training has learned so far: updates, and the speakers that it had
    recordings of.

    Args:
        path: of a training checkpoint.

    Raises:
        UserError: it is not a usable checkpoint, or was not trained with LoRA.
    """
    facts, state = load_trained_state(path)
    try:
        before, deltas = split_lora_state(state)
    except ValueError as error:
        raise UserError(f"The checkpoint {path} is damaged: {error}.") from error
    if not deltas or SPEAKER_TABLE not in before:
        raise UserError(
            f"There is no adapter in {path}: it was not trained with LoRA. Export it as a whole "
            f"with format=safetensors, or fine-tune with lora.rank=16 first."
        )
    base = facts.parents[-1] if facts.parents else {}
    # Voices of the base are the base's to give: one that is removed there shall not come back.
    of_dataset = facts.config.get("dataset_speakers", facts.named_speakers)
    speakers = [name for name in facts.named_speakers if name in of_dataset]
    rows = [before[SPEAKER_TABLE][facts.speakers.index(name)] for name in speakers]
    scale = next(iter(deltas.values())).scale
    deltas = {
        name: replace(delta, up=delta.up * (delta.scale / scale), scale=scale)
        for name, delta in deltas.items()
    }
    return Adapter(
        AdapterFacts(
            base_file=str(base.get("file", "")),
            base_sha256=str(base.get("sha256", "")),
            base_fingerprint=base_fingerprint(before, deltas),
            rank=max(delta.up.shape[1] for delta in deltas.values()),
            scale=scale,
            speakers=speakers,
            licence=facts.licence,
            parents=facts.parents,
        ),
        deltas,
        torch.stack(rows) if rows else before[SPEAKER_TABLE][:0],
    )


def apply_adapters(model: ModelFile, adapters: Sequence[tuple[Path, float]]) -> ModelFile:
    """A model with what adapters learned in its weights, and their speakers at the end of its
    table. Several stack: their updates add up, each times its scale.

    Scales are of the updates alone; speakers come as they are. Of a speaker that several adapters
    bring, the last one's row is used. A speaker of the base stays: an adapter that brings another
    row under that name is refused.

    Args:
        model: the base.
        adapters: files and scales.

    Raises:
        UserError: a file is not an adapter, is one of another base, or brings a speaker that the
            base has with another voice.
    """
    if not adapters:
        return model
    read = [(path, read_adapter(path), scale) for path, scale in adapters]
    for path, adapter, _ in read:
        _require_base(model.path, model.generator, path, adapter)
    weights, facts = dict(model.generator), model.facts
    for _, adapter, scale in read:
        # Adding zeros would change no weight but for the sign of a zero.
        for name, delta in adapter.deltas.items() if scale else ():
            weights[name] = delta.added_to(weights[name], scale)
    known = dict(zip(facts.speakers, weights[SPEAKER_TABLE], strict=True))
    new = _new_speakers(model.path, known, [(path, adapter) for path, adapter, _ in read])
    rows = [row[None] for row in new.values()]
    weights[SPEAKER_TABLE] = torch.cat([weights[SPEAKER_TABLE], *rows])
    parents = [parent_of(path, "adapter", adapter.facts.licence) for path, adapter, _ in read]
    facts = replace(facts, speakers=[*facts.speakers, *new], parents=[*facts.parents, *parents])
    return replace(model, facts=facts, generator=weights)


def _require_base(base: Path, weights: Mapping[str, Tensor], path: Path, adapter: Adapter) -> None:
    """The adapter was trained on these very weights.

    Raises:
        UserError: names the base that it wants and what was given, or what does not fit.
    """
    wanted = adapter.facts
    found = "none of these names"
    if {*adapter.deltas, SPEAKER_TABLE} <= weights.keys():
        found = base_fingerprint(weights, adapter.deltas)
    if found != wanted.base_fingerprint:
        raise UserError(
            f"adapters: {path} was trained on another model than checkpoint={base}. It wants "
            f"{wanted.base_file} (SHA-256 {wanted.base_sha256[:12] or 'unknown'}) with weights "
            f"{wanted.base_fingerprint[:12]}; {base} has {found[:12] or 'none'}. Give that "
            f"model as it was, or as svc-export wrote it, before anything was merged into it."
        )
    misshapen = [
        f"{name} {[len(delta.up), delta.down.shape[1]]} for {list(weights[name].shape)}"
        for name, delta in adapter.deltas.items()
        if weights[name].flatten(1).shape != (len(delta.up), delta.down.shape[1])
    ]
    if adapter.speakers.shape[1] != weights[SPEAKER_TABLE].shape[1]:
        shapes = [list(table.shape) for table in (adapter.speakers, weights[SPEAKER_TABLE])]
        misshapen.append(f"speakers {shapes[0]} for {shapes[1]}")
    if misshapen:
        raise UserError(
            f"The adapter {path} is damaged: shapes do not fit its base: "
            f"{'; '.join(misshapen[:5])}."
        )


def _new_speakers(
    base: Path, known: Mapping[str, Tensor], adapters: Sequence[tuple[Path, Adapter]]
) -> dict[str, Tensor]:
    """Rows [C] by name, in the order of the adapters.

    Raises:
        UserError: the base knows the name with another row.
    """
    new: dict[str, Tensor] = {}
    for path, adapter in adapters:
        for name, row in zip(adapter.facts.speakers, adapter.speakers, strict=True):
            if name in known:
                if not row.half().equal(known[name].half()):  # either file may be in float16
                    raise UserError(
                        f"adapters: {path} brings a speaker {name}, and {base} has another one of "
                        f"that name. Train the adapter with the recordings in a folder of another "
                        f"name."
                    )
                continue
            if name in new and not new[name].equal(row):
                _logger.warning("Several adapters bring %s; the voice is that of %s.", name, path)
            new[name] = row.to(next(iter(known.values())).dtype)
    return new
