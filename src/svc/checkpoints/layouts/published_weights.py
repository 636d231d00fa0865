"""Weights of a published file, taken layer by layer under whichever names their norm gave them.

Weight norm (Salimans & Kingma 2016) leaves three spellings in files: `weight_g` and `weight_v`,
torch's `parametrizations.weight.original0` and `original1` since version 2.1, and a plain `weight`
where it was folded before saving. Spectral norm (Miyato et al. 2018) leaves `weight_orig`,
`weight_u` and `weight_v`, or the names of its parametrization. Ours are those of the
parametrizations, so that one module takes them all.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from svc.checkpoints.layouts.base import KeyReport
from svc.errors import UserError

_LENGTH, _DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"
_OLD_NAMES = {
    _LENGTH: "weight_g",
    _DIRECTION: "weight_v",
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}
_SHOWN = 4
"""Names in a message."""


class PublishedWeights:
    """The weights below a prefix, and an account of what was taken, missing and of another shape.

    Args:
        published: names to weights, of any dtype.
        prefix: what stands before the names that the methods below are given; other names are
            ignored and are not among those that are left over.
    """

    def __init__(self, published: Mapping[str, Tensor], prefix: str = "") -> None:
        self._weights = {
            name.removeprefix(prefix): weight
            for name, weight in published.items()
            if name.startswith(prefix)
        }
        self.prefix = prefix
        self._used: dict[str, None] = {}
        self._missing: dict[str, None] = {}
        self._misfits: list[str] = []

    @property
    def some_names(self) -> list[str]:
        """A few of the published names, for messages."""
        return list(self._named(list(self._weights)[:_SHOWN]))

    def has(self, layer: str) -> bool:
        """Whether a layer has any weight."""
        return any(name.startswith(f"{layer}.") for name in self._weights)

    def count(self, pattern: str) -> int:
        """How many numbers, from 0 to the highest, take the place of `{}` in a name's beginning."""
        form = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d{1,4})") + r"\.")
        return max((int(m[1]) + 1 for name in self._weights if (m := form.match(name))), default=0)

    def shape(self, layer: str) -> tuple[int, ...] | None:
        """Of a layer's weight, before any normalisation; None where the layer is not there."""
        for name in ("weight", "weight_v", _DIRECTION, "weight_orig"):
            found = self._weights.get(f"{layer}.{name}")
            if found is not None and found.ndim > 1:
                return tuple(found.shape)
        return None

    def take(self, layer: str, parameter: str, shape: Sequence[int]) -> Tensor | None:
        """A parameter of a layer by our name of it; floating ones as float32.

        Args:
            layer: published name, such as `ups.0`.
            parameter: ours, such as `bias` or `parametrizations.weight.original0`.
            shape: ours, which may have dimensions of size 1 more or less than the published one.

        Returns:
            None where it is missing or of another shape, which goes into the account.
        """
        name = self._name_of(layer, parameter)
        if name not in self._weights:
            self._missing[name] = None
            return None
        found = self._weights[name]
        self._used[name] = None
        if found.is_floating_point():
            found = found.float()
        if name.endswith(".weight") and parameter in (_LENGTH, _DIRECTION):
            found = unfolded(found)[(_LENGTH, _DIRECTION).index(parameter)]
        if [size for size in found.shape if size != 1] != [size for size in shape if size != 1]:
            self._misfits.append(
                f"{self.prefix}{name} is {list(found.shape)}, expected {list(shape)}"
            )
            return None
        return found.reshape(tuple(shape))

    def fill(
        self, template: Mapping[str, Tensor], published_layer: Callable[[str], str]
    ) -> dict[str, Tensor]:
        """Weights for a module.

        Args:
            template: the module's state dict; only names and shapes are looked at.
            published_layer: our name of a layer -> the published one.

        Returns:
            Under our names; what is missing or of another shape is not in it.
        """
        filled = {}
        for name, wanted in template.items():
            layer, found, rest = name.partition(".parametrizations.")
            if not found:
                layer, _, rest = name.rpartition(".")
            parameter = f"parametrizations.{rest}" if found else rest
            taken = self.take(published_layer(layer), parameter, wanted.shape)
            if taken is not None:
                filled[name] = taken
        return filled

    def report(self, notes: Sequence[str] = ()) -> KeyReport:
        """The account so far."""
        return KeyReport(
            used=self._named(self._used),
            missing=self._named(self._missing),
            left_over=self._named(n for n in self._weights if n not in self._used),
            notes=tuple(notes),
        )

    @property
    def faults(self) -> list[str]:
        """What is missing and what has another shape, in words."""
        missing = [f"{self.prefix}{name} is missing" for name in self._missing]
        return [*missing, *self._misfits]

    def require_complete(self, what: str) -> None:
        """Refuse a part that is not whole.

        Raises:
            UserError: names the part and some of its faults.
        """
        faults = self.faults
        if faults:
            more = f" (and {len(faults) - _SHOWN} more)" if len(faults) > _SHOWN else ""
            raise UserError(
                f"{what} cannot be read from this file: {'; '.join(faults[:_SHOWN])}{more}. The "
                f"file is cut short, or of a size or kind that is not supported."
            )

    def _name_of(self, layer: str, parameter: str) -> str:
        """The published name, as this file spells it."""
        spellings = [f"{layer}.{parameter}"]
        if parameter in _OLD_NAMES:
            spellings.append(f"{layer}.{_OLD_NAMES[parameter]}")
        normed = any(f"{layer}.{name}" in self._weights for name in (*_OLD_NAMES.values(), _LENGTH))
        if parameter in (_LENGTH, _DIRECTION) and not normed:
            spellings.append(f"{layer}.weight")
        for name in spellings:
            if name in self._weights:
                return name
        return spellings[min(self._spelling, len(spellings) - 1)]

    @property
    def _spelling(self) -> int:
        """Which of the spellings above most of the file is in, to name what is missing."""
        if any(".parametrizations." in name for name in self._weights):
            return 0
        return 1 if any(name.endswith(".weight_v") for name in self._weights) else 2

    def _named(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(f"{self.prefix}{name}" for name in names)


def unfolded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Length [O, 1, ...] and direction [O, ...] whose weight norm over dimension 0 is `weight`
    [O, ...] again. A row of zeros gets any direction and no length: its own has none."""
    length = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
    return length, torch.where(length > 0, weight, torch.ones_like(weight))
