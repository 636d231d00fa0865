"""What published models are told to sing, as far as their files tell: encoders, speakers, content.

fish-diffusion's encoders (`NaiveProjectionEncoder`) are a linear layer, two of them in a row (a
"neck"), or a table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from svc.checkpoints.layouts.base import LayoutOptions
from svc.errors import UserError

_CONTENT_OF_WIDTH = {256: None, 768: "contentvec_768"}
"""Channels -> option of the group content; None for what the layout has by default."""


@dataclass(frozen=True)
class PublishedEncoder:
    """One input's encoder, as a single layer."""

    weight: Tensor
    """[C_out, C_in] of a linear layer, [rows, C_out] of a table."""
    bias: Tensor | None
    """[C_out]; None for a table."""
    names: tuple[str, ...]
    """Published names that it was made of."""

    @property
    def is_table(self) -> bool:
        """Whether its input is an index."""
        return self.bias is None

    @property
    def is_untrained(self) -> bool:
        """Whether it was never trained: its bias is exactly zero, as fish-diffusion initialises it,
        and optimisers leave alone what gets no gradients."""
        return self.bias is not None and not bool(self.bias.any())


def read_encoder(
    state: Mapping[str, Tensor], prefix: str, channels: int
) -> PublishedEncoder | None:
    """The encoder below a prefix such as `model.energy_encoder.`; None where there is none.

    Args:
        state: published names to weights.
        prefix: with its dot.
        channels: C_out.

    Raises:
        UserError: there is one of another kind, or its weights are incomplete or of a wrong shape.
    """
    names = tuple(name for name in state if name.startswith(prefix))
    if not names:
        return None
    weights = {name.removeprefix(prefix): state[name].float() for name in names}
    kind = set(weights)
    if kind == {"embedding.weight"}:
        encoder = PublishedEncoder(weights["embedding.weight"], None, names)
        fits = encoder.weight.ndim == 2 and encoder.weight.shape[1] == channels
    elif kind == {"projection.weight", "projection.bias"}:
        encoder = PublishedEncoder(weights["projection.weight"], weights["projection.bias"], names)
        fits = _fits(encoder, channels)
    elif kind == {f"projection.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}:
        encoder = _without_neck(weights, names)
        fits = _fits(encoder, channels)
    else:
        raise UserError(
            f"{prefix}* is an encoder of another kind than svc knows: expected "
            f"projection.weight and projection.bias, or embedding.weight; found "
            f"{', '.join(sorted(kind)[:6])}."
        )
    if not fits:
        shapes = ", ".join(f"{name} {list(state[name].shape)}" for name in names)
        raise UserError(f"An encoder does not give {channels} channels as the others: {shapes}.")
    return encoder


def _without_neck(weights: Mapping[str, Tensor], names: tuple[str, ...]) -> PublishedEncoder:
    """Two linear layers with nothing between them are one."""
    first, second = weights["projection.0.weight"], weights["projection.1.weight"]
    inner, outer = weights["projection.0.bias"], weights["projection.1.bias"]
    if first.ndim != 2 or second.ndim != 2 or second.shape[1] != first.shape[0]:
        return PublishedEncoder(first, outer, names)  # does not fit
    if inner.shape != first.shape[:1] or outer.shape != second.shape[:1]:
        return PublishedEncoder(first, inner[:0], names)
    return PublishedEncoder(second @ first, second @ inner + outer, names)


def _fits(encoder: PublishedEncoder, channels: int) -> bool:
    weight, bias = encoder.weight, encoder.bias
    return (
        weight.ndim == 2
        and weight.shape[0] == channels
        and bias is not None
        and bias.shape == (channels,)
    )


def speaker_names(count: int, options: LayoutOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the rows of a speaker table, and notes about them. Published files hold none.

    Raises:
        UserError: names are given, but not one for each row, or one twice.
    """
    if options.speakers is None:
        names = tuple(f"speaker_{index}" for index in range(count))
        shown = names[0] if count == 1 else f"{names[0]} to {names[-1]}"
        return names, (
            f"The file does not name its {count} speaker{'s' if count > 1 else ''}: "
            f"{shown} until options.speakers=[…] names them in the order of its table.",
        )
    names = tuple(map(str, options.speakers))
    if len(names) != count or len(set(names)) != count or "" in names:
        raise UserError(
            f"options.speakers={list(names)} must name the {count} speakers of the file, in the "
            f"order of its table, each once."
        )
    return names, ()


def content_choice(
    channels: int, options: LayoutOptions, default: str
) -> tuple[str, tuple[str, ...]]:
    """The option of the group content that a model listens with, and notes about it.

    Args:
        channels: width of the content that the model takes.
        options: given by the user.
        default: of the layout, for 256 channels.
    """
    if options.content is not None:
        return options.content, ()
    choice = _CONTENT_OF_WIDTH.get(channels) or default
    note = f"content={choice} is assumed; options.content=… names another encoder."
    if channels not in _CONTENT_OF_WIDTH:
        note = (
            f"The model listens to content of {channels} channels, which no encoder of svc is "
            f"known to give: it converts only with options.content=… that does."
        )
    return choice, (note,)


def pitch_choice(options: LayoutOptions, default: str) -> tuple[str, tuple[str, ...]]:
    """The option of the group pitch, and notes about it."""
    if options.pitch is not None:
        return options.pitch, ()
    return default, (f"pitch={default} is assumed; options.pitch=… names another tracker.",)
