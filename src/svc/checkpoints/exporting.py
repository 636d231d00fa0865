"""From any file that holds a model to a slim file that can be passed on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor

from svc.checkpoints.adapter_file import AdapterFacts, write_adapter
from svc.checkpoints.adapters import SPEAKER_TABLE, adapter_of
from svc.checkpoints.facts import REMOVED_SPEAKER, CheckpointFacts, parent_of
from svc.checkpoints.model_file import ModelFile, portable_config
from svc.checkpoints.slim_file import write_slim
from svc.errors import UserError, UserErrors

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}
SUFFIX = ".safetensors"
ADAPTER_SUFFIX = ".adapter.safetensors"
"""Of an adapter whose name is not given, because that of its checkpoint as a whole is the other."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    size_bytes: int
    facts: CheckpointFacts | AdapterFacts
    has_discriminator: bool = False

    def about(self) -> list[str]:
        """Lines that say who sings in it and under which licence."""
        facts = self.facts
        return [
            f"  speakers: {', '.join(facts.named_speakers) or 'none; it is a vocoder'}",
            f"  licence:  {facts.licence or 'not recorded; licence=NAME records one'}",
        ]


def export_model(
    model: ModelFile,
    output: Path,
    *,
    precision: str = "fp32",
    discriminators: bool = False,
    remove_speakers: Sequence[str] = (),
    licence: str | None = None,
) -> Exported:
    """Write a model as one safetensors file.

    Settings that tell of the machine that it was trained on stay out. A published file is recorded
    as what the weights came from.

    Args:
        model: read with its discriminators, where they are wanted.
        output: file to write, see `output_path`; folders are made.
        precision: "fp32" or "fp16".
        discriminators: write them too, for those who want to train on.
        remove_speakers: names that are to be gone, see `without_speakers`.
        licence: of the weights; None keeps what the file says.

    Raises:
        UserError: a choice is not known or cannot be met, the weights are NaN or infinite, or the
            file cannot be written.
    """
    dtype = _dtype_of(precision)
    if discriminators and not model.discriminator:
        raise UserError(
            f"discriminators=true: {model.path} holds none. Leave it out; only training "
            f"checkpoints of GANs, and what was exported of them with discriminators, have some."
        )
    facts, generator = without_speakers(model.facts, model.generator, remove_speakers)
    facts = replace(
        facts, config=portable_config(facts.config), licence=licence or model.facts.licence
    )
    if model.report is not None:
        source = parent_of(model.path, model.kind, model.facts.licence)
        facts = replace(facts, parents=[*facts.parents, source])
    judges = model.discriminator if discriminators else {}
    with _writing(output):
        write_slim(output, facts, generator, judges, dtype)
    return Exported(output, output.stat().st_size, facts, bool(judges))


def export_adapter(
    checkpoint: Path, output: Path, *, precision: str = "fp32", licence: str | None = None
) -> Exported:
    """Write what a LoRA training learned, and nothing of the model that it learned on.

    Args:
        checkpoint: of the training.
        output: file to write, see `output_path`; folders are made.
        precision: "fp32" or "fp16".
        licence: of the adapter; None keeps what the checkpoint says.

    Raises:
        UserError: the checkpoint is not usable or was not trained with LoRA, or the file cannot be
            written.
    """
    dtype = _dtype_of(precision)
    adapter = adapter_of(checkpoint)
    facts = replace(adapter.facts, licence=licence or adapter.facts.licence)
    with _writing(output):
        write_adapter(output, replace(adapter, facts=facts), dtype)
    return Exported(output, output.stat().st_size, facts)


def output_path(source: Path, output: Path | None, overwrite: bool, ending: str = SUFFIX) -> Path:
    """The file that `output` means.

    Args:
        source: that is exported.
        output: a file, or a folder; None for the folder of the source. In a folder the name is
            that of the source.
        overwrite: a file that is there may be replaced.
        ending: of the name in a folder.

    Raises:
        UserError: it has another suffix than .safetensors, is the source itself, or is there.
    """
    chosen = source.parent if output is None else output
    if chosen.is_dir():
        chosen = chosen / f"{source.stem}{ending}"
    if chosen.suffix != SUFFIX:
        raise UserError(
            f"output={output} must be a folder that is there, or a file that ends in {SUFFIX}."
        )
    if chosen.exists() and chosen.samefile(source):
        raise UserError(
            f"{chosen} is the file to be exported itself. Give output=FILE{SUFFIX} another name."
        )
    if chosen.exists() and not overwrite:
        raise UserError(
            f"{chosen} is there already. Give overwrite=true to replace it, or another output."
        )
    return chosen


def without_speakers(
    facts: CheckpointFacts, generator: Mapping[str, Tensor], names: Sequence[str]
) -> tuple[CheckpointFacts, dict[str, Tensor]]:
    """A model that no longer knows some voices: their rows of the speaker table are zero and their
    names are gone. The others keep their place and sound the same to the bit.

    Raises:
        UserErrors: names are not in the model.
        UserError: none would be left.
    """
    weights = dict(generator)
    if not names:
        return facts, weights
    known = facts.named_speakers
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if unknown:
        raise UserErrors(
            f"remove_speakers: this model knows {', '.join(known) or 'no speakers'}.",
            [_not_there(name, known) for name in unknown],
        )
    if not set(known) - set(names):
        raise UserError(
            f"remove_speakers={list(names)} would leave none; a model that converts needs at least "
            f"one."
        )
    kept = [REMOVED_SPEAKER if name in names else name for name in facts.speakers]
    table = weights[SPEAKER_TABLE].clone()
    table[[name == REMOVED_SPEAKER for name in kept]] = 0
    weights[SPEAKER_TABLE] = table
    return replace(facts, speakers=kept), weights


def _dtype_of(precision: str) -> torch.dtype:
    if precision not in PRECISIONS:
        raise UserError(f"precision={precision}: choose one of {', '.join(PRECISIONS)}.")
    return PRECISIONS[precision]


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """The folder is made; what the system refuses is told."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"{output} cannot be written: {error.strerror or error}. Make room or give another "
            f"output."
        ) from error


def _not_there(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"{name} is not there." + (f" Did you mean {near[0]}?" if near else "")
