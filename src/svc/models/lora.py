"""Low-rank adaptation (Hu et al. 2022, "LoRA"): a trained weight stays, and what is learned on top
of it is a product of two thin matrices."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

DEFAULT_TARGETS = ("conditioner", "backbone", "denoiser")
"""Parts of a singer that are adapted; one that a singer lacks is passed over."""

_PARAMETRIZED = ".parametrizations.weight."
_ORIGINAL, _UP, _DOWN, _SCALE = (
    _PARAMETRIZED + name for name in ("original", "0.up", "0.down", "0.scale")
)


@dataclass(frozen=True)
class LowRankDelta:
    """What is added to a weight [O, …] of K values per output."""

    up: Tensor
    """[O, r]."""
    down: Tensor
    """[r, K]."""
    scale: float
    """Of the product."""

    def added_to(self, weight: Tensor, factor: float = 1.0) -> Tensor:
        """weight [O, …] + factor x scale x (up @ down), a new tensor."""
        return _sum(weight, self.up, self.down, self.up.new_tensor(self.scale * factor))


class LowRankUpdate(nn.Module):
    """A parametrization: W -> W + scale x (up @ down).

    `up` starts at zero, so that nothing changes before the first step, and `down` at random as in
    a linear layer (section 4.1). The sum is computed in the weight's own precision, also under
    autocast, because the sum is what conversion uses.

    Args:
        weight: [O, …] that will be adapted; only its shape and type are looked at.
        rank: r, cut to the smaller side of the weight as a matrix [O, K].
        scale: of the product.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        outputs, inputs = weight.shape[0], weight[0].numel()
        rank = min(rank, outputs, inputs)
        self.up = nn.Parameter(weight.new_zeros(outputs, rank))
        self.down = nn.Parameter(weight.new_empty(rank, inputs))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.register_buffer("scale", weight.new_tensor(scale))

    def forward(self, weight: Tensor) -> Tensor:
        """[O, …] -> the same shape."""
        return _sum(weight, self.up, self.down, self.scale)


def add_lora(
    module: nn.Module,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] = DEFAULT_TARGETS,
) -> list[str]:
    """Adapts the weights of all linear layers and one-dimensional convolutions inside parts of a
    singer, in place. Biases, embeddings and weight-normed layers stay as they are.

    An adapted weight itself takes no gradient any more. In the state dict `X.weight` becomes
    `X.parametrizations.weight.original`, with `.0.up`, `.0.down` and `.0.scale` beside it.

    Args:
        module: a singer with its trained weights.
        rank: r of the products; where a side of a weight is shorter, that.
        alpha: the products are scaled by alpha / rank, all alike; None for a scale of 1.
        targets: names of parts, with dots for parts of parts. Those of `DEFAULT_TARGETS` may be
            absent.

    Returns:
        The names of the adapted weights, as they are without adaptation.

    Raises:
        ValueError: rank or alpha is out of range, a target is not there, there is nothing to
            adapt in all of them, or a layer is grouped or adapted already.
    """
    alpha = rank if alpha is None else alpha
    if rank < 1 or not 0 < alpha < math.inf:
        raise ValueError(f"rank={rank} must be at least 1 and alpha={alpha} above 0")
    layers = _layers_to_adapt(module, targets)
    grouped = [name for name, layer in layers.items() if getattr(layer, "groups", 1) != 1]
    if grouped:
        raise ValueError(f"grouped convolutions cannot be adapted: {', '.join(grouped)}")
    for layer in layers.values():
        weight = layer.weight.requires_grad_(False)
        update = LowRankUpdate(weight, rank, alpha / rank)
        parametrize.register_parametrization(layer, "weight", update)
    return [f"{name}.weight" for name in layers]


def split_lora_state(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, LowRankDelta]]:
    """A state dict as it was before adaptation, and what was added by weight.

    Raises:
        ValueError: a part of an update is missing.
    """
    updates = [name.removesuffix(_UP) for name in state if name.endswith(_UP)]
    missing = [
        layer + part
        for layer in updates
        for part in (_ORIGINAL, _DOWN, _SCALE)
        if layer + part not in state
    ]
    if missing:
        raise ValueError(f"low-rank updates are incomplete; missing: {', '.join(missing)}")
    parts = {layer + part for layer in updates for part in (_UP, _DOWN, _SCALE)}
    plain = {layer + _ORIGINAL: f"{layer}.weight" for layer in updates}
    before = {plain.get(name, name): value for name, value in state.items() if name not in parts}
    deltas = {
        f"{layer}.weight": LowRankDelta(
            state[layer + _UP], state[layer + _DOWN], float(state[layer + _SCALE])
        )
        for layer in updates
    }
    return before, deltas


def merged_lora_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as of a module that was never adapted, with what was learned in its weights.
    One without updates comes back as it is.

    Raises:
        ValueError: see `split_lora_state`.
    """
    before, deltas = split_lora_state(state)
    return before | {name: delta.added_to(before[name]) for name, delta in deltas.items()}


def _sum(weight: Tensor, up: Tensor, down: Tensor, scale: Tensor) -> Tensor:
    """The one place where updates are added, so that training and conversion agree to the bit."""
    with torch.autocast(weight.device.type, enabled=False):
        return torch.addmm(weight.flatten(1), up * scale, down).view_as(weight)


def _layers_to_adapt(module: nn.Module, targets: Sequence[str]) -> dict[str, nn.Linear | nn.Conv1d]:
    """By name, each once where targets overlap."""
    parts = dict(module.named_modules())
    unknown = [name for name in targets if name not in parts and name not in DEFAULT_TARGETS]
    if unknown:
        raise ValueError(f"targets {', '.join(unknown)} are not there; {_what_there_is(module)}")
    found: dict[str, nn.Linear | nn.Conv1d] = {}
    for target in targets:
        if target in parts:
            found |= _plain_layers(parts[target], target)
    if not found:
        raise ValueError(
            f"targets {', '.join(targets)} hold no layer to adapt; {_what_there_is(module)}"
        )
    return found


def _plain_layers(module: nn.Module, prefix: str) -> dict[str, nn.Linear | nn.Conv1d]:
    """Linear layers and convolutions whose weights are parameters of their own."""
    found: dict[str, nn.Linear | nn.Conv1d] = {}
    for name, layer in module.named_modules(prefix=prefix):
        if not isinstance(layer, nn.Linear | nn.Conv1d):
            continue
        if not parametrize.is_parametrized(layer, "weight"):
            found[name] = layer
        elif isinstance(layer.parametrizations["weight"][0], LowRankUpdate):  # type: ignore[index]
            raise ValueError(f"{name} is adapted already")
    return found


def _what_there_is(module: nn.Module) -> str:
    names = [name for name, child in module.named_children() if _plain_layers(child, name)]
    return f"this {type(module).__name__} has {', '.join(names) or 'nothing that can be adapted'}"
