"""A model without what only its training needed: one safetensors file.

Weights lie under the names that `arch.generator` gives them, after `generator.`, and the judges of
a GAN, where they were asked for, after `discriminator.`. Weight norm is not folded, so that the
model can be trained further. All facts lie in the metadata under `svc`, as JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from svc import __version__
from svc.checkpoints.atomic_io import write_safetensors
from svc.checkpoints.facts import FORMAT_VERSION, CheckpointFacts, facts_from_json
from svc.checkpoints.finite import non_finite
from svc.errors import UserError

FACTS_KEY = "svc"
"""Where the facts lie in the metadata of the file."""

_GENERATOR, _DISCRIMINATOR = "generator.", "discriminator."


@dataclass(frozen=True)
class SlimModel:
    """What a slim file holds; all floating-point weights are float32, on the CPU."""

    facts: CheckpointFacts
    generator: dict[str, Tensor]
    """Weights of what `arch.generator` of the configuration builds."""
    discriminator: dict[str, Tensor] = field(default_factory=dict)
    """Weights of `arch.discriminator`, or nothing."""


def write_slim(
    path: Path,
    facts: CheckpointFacts,
    generator: Mapping[str, Tensor],
    discriminator: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the file, whole or not at all.

    Args:
        path: of the file; its folder exists.
        facts: written as they are, but for the version, which is ours.
        generator: weights without a prefix.
        discriminator: likewise; None or nothing leaves them out.
        dtype: float32, or float16 for matrices and kernels; what is a mere row of numbers (biases,
            gains, bounds of mels) stays float32, because it takes up nothing.

    Raises:
        UserError: weights are NaN or infinite, or too large for float16; names them.
        ValueError: another dtype, or nothing to write.
    """
    if dtype not in (torch.float32, torch.float16):
        raise ValueError(f"dtype={dtype} must be float32 or float16")
    if not generator:
        raise ValueError("a model without weights cannot be written")
    named = {f"{_GENERATOR}{name}": weight for name, weight in generator.items()}
    named |= {f"{_DISCRIMINATOR}{name}": weight for name, weight in (discriminator or {}).items()}
    require_finite(named, f"{path} is not written: the model")
    tensors = {name: _stored(weight, dtype) for name, weight in named.items()}
    too_large = non_finite(tensors)
    if too_large:
        raise UserError(
            f"{path} is not written: {len(too_large)} of {len(tensors)} weights hold values beyond "
            f"{torch.finfo(dtype).max:g}, the largest in fp16, for example {too_large[0]} "
            f"({float(named[too_large[0]].abs().max()):.3g}). Give precision=fp32."
        )
    current = facts.to_plain() | {"format_version": FORMAT_VERSION, "svc_version": __version__}
    metadata = {FACTS_KEY: json.dumps(current), "format": "pt"}
    write_safetensors(path, tensors, metadata)


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself; empty where it says nothing.

    Raises:
        UserError: it is cut short, damaged, or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def is_slim(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata of a safetensors file is that of a slim file."""
    return FACTS_KEY in metadata


def read_slim(path: Path) -> SlimModel:
    """The model in a slim file.

    Raises:
        UserError: no such file, cut short, damaged, not one of ours, from a newer version, or with
            weights that are NaN or infinite or belong to nothing.
    """
    if not path.is_file():
        raise UserError(f"There is no model {path}. Give a file that svc-export wrote.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Nothing but ours is worth reading.
            names = file.keys() if is_slim(metadata) else ()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not is_slim(metadata):
        raise UserError(
            f"{path} is a safetensors file, but not a model of svc: it lacks the facts about its "
            f"model. Give a file that svc-export or svc-convert-checkpoint wrote."
        )
    try:
        facts = CheckpointFacts.from_plain(facts_from_json(metadata[FACTS_KEY], "its model"))
        generator, discriminator = _by_network(tensors)
    except UserError as error:
        raise UserError(f"The model {path} {error}") from error
    require_finite(tensors, f"The model {path}")
    return SlimModel(facts, generator, discriminator)


def require_finite(weights: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that cannot sing.

    Raises:
        UserError: some are NaN or infinite; begins with `what` and names one.
    """
    broken = non_finite(weights)
    if broken:
        raise UserError(
            f"{what} has NaN or infinite values in {len(broken)} of {len(weights)} weights, for "
            f"example {broken[0]}. Use an earlier checkpoint of the run."
        )


def _stored(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """In memory of its own, as safetensors wants it."""
    if not weight.is_floating_point():
        return weight.detach().contiguous().clone()
    is_row = sum(side > 1 for side in weight.shape) < 2
    stored = torch.float32 if is_row else dtype
    return weight.detach().to(stored, copy=True).contiguous()


def _by_network(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the generator and of the discriminator, without their prefixes."""
    networks: dict[str, dict[str, Tensor]] = {_GENERATOR: {}, _DISCRIMINATOR: {}}
    others = []
    for name, tensor in tensors.items():
        prefix = f"{name.partition('.')[0]}."
        if prefix not in networks:
            others.append(name)
            continue
        full = tensor.float() if tensor.is_floating_point() else tensor
        networks[prefix][name.removeprefix(prefix)] = full
    if others or not networks[_GENERATOR]:
        holds = f"weights that belong to nothing ({', '.join(others[:5])})"
        raise UserError(f"holds {holds if others else 'no weights of a generator'}; it is damaged.")
    return networks[_GENERATOR], networks[_DISCRIMINATOR]


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} cannot be read: it is cut short, damaged, or no safetensors file "
        f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); it has "
        f"{path.stat().st_size} bytes. Copy or export it again."
    )
