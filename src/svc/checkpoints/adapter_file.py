"""What LoRA (Hu et al. 2022) learned on top of a base model, by itself in one safetensors file."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from svc import __version__
from svc.checkpoints.atomic_io import write_safetensors
from svc.checkpoints.facts import facts_from_json
from svc.checkpoints.finite import non_finite
from svc.errors import UserError
from svc.models.lora import LowRankDelta

ADAPTER_KEY = "svc_adapter"
"""Where an adapter's facts lie in the metadata of its file, as JSON."""

ADAPTER_FORMAT_VERSION = 1
"""Raised by one when older versions of svc could no longer read the file."""

_UP, _DOWN, _SPEAKERS = ".up", ".down", "speakers"


@dataclass(frozen=True)
class AdapterFacts:
    """Everything besides numbers that using an adapter needs."""

    base_file: str
    """Name of the file that it was trained on, for people."""
    base_sha256: str
    """Of that file, or nothing where it is not known."""
    base_fingerprint: str
    """Of the adapted weights before adaptation, see `base_fingerprint`."""
    rank: int
    """Of the products, where no side of a weight was shorter."""
    scale: float
    """Of the products: alpha / rank."""
    speakers: list[str]
    """Names of the speaker table's rows that it brings."""
    licence: str | None = None
    """Of the adapter itself; that of the base comes on top."""
    parents: list[dict[str, Any]] = field(default_factory=list)
    """The files that it came from, as in `CheckpointFacts`."""
    svc_version: str = __version__
    """The version that wrote the file."""
    format_version: int = ADAPTER_FORMAT_VERSION
    """Version of this layout."""

    @property
    def named_speakers(self) -> list[str]:
        """Those that can be sung with."""
        return self.speakers

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "AdapterFacts":
        """Out of what was JSON.

        Raises:
            UserError: made by a newer version, or a fact is missing or of another kind.
        """
        version = plain.get("format_version")
        if not isinstance(version, int) or version > ADAPTER_FORMAT_VERSION:
            raise UserError(
                f"was written by svc {plain.get('svc_version', '?')} in format {version}; this svc "
                f"{__version__} reads adapters up to format {ADAPTER_FORMAT_VERSION}. Install a "
                f"newer version of svc."
            )
        try:
            facts = cls(**{name: plain[name] for name in cls.__dataclass_fields__})
            texts = (facts.base_file, facts.base_sha256, facts.base_fingerprint, *facts.speakers)
            lists = (facts.speakers, facts.parents)
            well_formed = (
                math.isfinite(facts.scale)
                and all(isinstance(text, str) for text in texts)
                and all(isinstance(part, list) for part in lists)
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"lacks facts about itself ({error}); it is damaged.") from error
        if not well_formed:
            raise UserError("holds facts about itself that make no sense; it is damaged.")
        return facts


@dataclass(frozen=True)
class Adapter:
    """Updates of a base model's weights, and speakers that it lacks."""

    facts: AdapterFacts
    deltas: Mapping[str, LowRankDelta]
    """By name of the weight, in the generator without adaptation."""
    speakers: Tensor
    """[S, C], a row of the speaker table for every name in the facts."""


def base_fingerprint(weights: Mapping[str, Tensor], names: Iterable[str]) -> str:
    """64 hexadecimal digits that change with the weights of these names. They are rounded to
    float16 first, so that files of one model in either precision agree."""
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name} {list(weights[name].shape)}\n".encode())
        digest.update(weights[name].detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_adapter(path: Path, adapter: Adapter, dtype: torch.dtype = torch.float32) -> None:
    """Write the file, whole or not at all.

    Args:
        path: of the file; its folder exists.
        adapter: what to write.
        dtype: of the numbers, float32 or float16.
    """
    tensors = {_SPEAKERS: adapter.speakers.to(dtype).contiguous()}
    for name, delta in adapter.deltas.items():
        up, down = _balanced(delta.up, delta.down)
        tensors[name + _UP] = up.to(dtype).contiguous()
        tensors[name + _DOWN] = down.to(dtype).contiguous()
    metadata = {ADAPTER_KEY: json.dumps(asdict(adapter.facts)), "format": "pt"}
    write_safetensors(path, tensors, metadata)


def is_adapter(metadata: Mapping[str, str] | None) -> bool:
    """Whether the metadata of a safetensors file is that of an adapter."""
    return metadata is not None and ADAPTER_KEY in metadata


def read_adapter(path: Path) -> Adapter:
    """An adapter in float32 on the CPU.

    Raises:
        UserError: no such file, not an adapter, cut short, from a newer version, or with numbers
            that are NaN, infinite or of impossible shapes.
    """
    if not path.is_file():
        raise UserError(
            f"There is no adapter {path}. Give adapters=[FILE:SCALE] a file that "
            f"svc-export format=adapter wrote."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"The adapter {path} cannot be read: it is cut short, damaged, or no safetensors file "
            f"({error}). Give a file that svc-export format=adapter wrote."
        ) from error
    if not is_adapter(metadata):
        raise UserError(
            f"{path} is not an adapter; a whole model is given as checkpoint=FILE. An adapter is "
            f"made with svc-export format=adapter from a checkpoint that was trained with "
            f"lora.rank above 0."
        )
    try:
        return _checked(
            AdapterFacts.from_plain(facts_from_json(metadata[ADAPTER_KEY], "itself")), tensors
        )
    except UserError as error:
        raise UserError(f"The adapter {path} {error}") from error


def _checked(facts: AdapterFacts, tensors: Mapping[str, Tensor]) -> Adapter:
    """Names, shapes and numbers make sense."""
    names = [name.removesuffix(_UP) for name in tensors if name.endswith(_UP)]
    expected = {_SPEAKERS, *(name + part for name in names for part in (_UP, _DOWN))}
    broken = sorted(expected ^ tensors.keys())
    broken += [name for name, value in tensors.items() if not value.is_floating_point()]
    if not names or broken:
        raise UserError(
            f"is damaged: weights are missing or make no sense ({', '.join(broken[:5]) or 'all'})."
        )
    infinite = non_finite(tensors)
    if infinite:
        raise UserError(
            f"has NaN or infinite values in {len(infinite)} of {len(tensors)} weights, for example "
            f"{infinite[0]}. Export it again, from an earlier checkpoint of the run."
        )
    rows = tensors[_SPEAKERS].float()
    ups, downs = ([tensors[name + part].float() for name in names] for part in (_UP, _DOWN))
    faults = [
        f"{name} {list(up.shape)} x {list(down.shape)}"
        for name, up, down in zip(names, ups, downs, strict=True)
        if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]
    ]
    if rows.ndim != 2 or len(rows) != len(facts.speakers):
        faults.append(f"{len(facts.speakers)} speakers have rows {list(rows.shape)}")
    if faults:
        raise UserError(f"is damaged: shapes do not fit each other: {'; '.join(faults[:5])}.")
    deltas = {
        name: LowRankDelta(up, down, facts.scale)
        for name, up, down in zip(names, ups, downs, strict=True)
    }
    return Adapter(facts, deltas, rows)


def _balanced(up: Tensor, down: Tensor) -> Sequence[Tensor]:
    """The same product from factors of about the same size, so that neither leaves the range in
    which float16 is exact to 11 bits: `up` starts at zero and stays small for long. A power of two
    changes no digit."""
    largest_up, largest_down = (float(factor.abs().max()) for factor in (up, down))
    if not largest_up or not largest_down:
        return up, down
    factor = 2.0 ** round(math.log2(largest_down / largest_up) / 2)
    return up * factor, down / factor
