"""What a published checkpoint becomes, whichever toolkit wrote it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class KeyReport:
    """What became of every name in a checkpoint. Names are those of the file."""

    used: tuple[str, ...]
    """Their weights are in the model."""
    missing: tuple[str, ...] = ()
    """Should be there and are not."""
    left_over: tuple[str, ...] = ()
    """Are there and mean nothing to the model."""
    notes: tuple[str, ...] = ()
    """What was found out, assumed or put in place of what is missing; whole sentences."""


@dataclass(frozen=True)
class LayoutOptions:
    """What a published file does not say about itself; None leaves it to the layout, which then
    says in its notes what it assumed."""

    content: str | None = None
    """Option of the group `content` that the model listens with."""
    pitch: str | None = None
    """Option of the group `pitch`."""
    speakers: tuple[str, ...] | None = None
    """Names in the order of the speaker table."""
    mel_log: str | None = None
    """`natural` or `log10`: the logarithm of a DiffSVC's mels."""
    dilation_cycle: int | None = None
    """Of a denoiser: weights do not tell dilations."""
    pitch_encoding: str | None = None
    """Of the conditioner, see `svc.models.conditioner`."""
    use_energy: bool | None = None
    """False leaves the energy encoder out."""
    use_key_shift: bool | None = None
    """False leaves the key-shift encoder out."""
    vocoder_config: str | None = None
    """The config.json of a vocoder, where it does not lie beside the file."""


@dataclass(frozen=True)
class PublishedModel:
    """A published checkpoint in our terms: a configuration and weights under our names."""

    kind: str
    """Name of the layout."""
    choices: Mapping[str, str]
    """Options of groups of conf/ that `svc-train` would take for this model: arch, audio, ..."""
    settings: Mapping[str, Any]
    """What differs from those options, as a nested mapping merged over them: sizes found in the
    file."""
    generator: Mapping[str, Tensor]
    """Complete weights of the module that `arch.generator` of this configuration builds."""
    content_channels: int
    """Width of the content features; 0 for a vocoder."""
    speakers: tuple[str, ...]
    """Names of the rows of the speaker table; empty for a vocoder."""
    report: KeyReport
    discriminator: Mapping[str, Tensor] = field(default_factory=dict)
    """Complete weights of `arch.discriminator`, or nothing."""


class Layout(Protocol):
    """One published layout: a module of `svc.checkpoints.layouts` provides an instance."""

    kind: str
    """Short name, shown to people."""
    description: str
    """What it is and where it comes from, in a few words."""

    def matches(self, names: Collection[str]) -> bool:
        """Whether a state dict with these names is of this layout."""

    def read(self, state: Mapping[str, Tensor], options: LayoutOptions) -> PublishedModel:
        """The model in a state dict that `matches`.

        Raises:
            UserError: weights are missing, of a wrong shape, or the file holds what this layout
                cannot express; names them.
        """
