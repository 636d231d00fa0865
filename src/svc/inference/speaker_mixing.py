"""Voices between those that a model knows: mixes of speakers, fixed or over time."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

import torch
from torch import Tensor

from svc.errors import UserError, UserErrors
from svc.inference.spherical_mean import spherical_mean_weights

Interpolation = Literal["linear", "spherical"]

_LONGEST_LABEL = 80


@dataclass(frozen=True)
class SpeakerMix:
    """A voice made of one or several.

    Raises:
        ValueError: the shares are not positive or do not add up to 1.
    """

    shares: Mapping[str, float]
    """By name, above 0, adding up to 1."""

    def __post_init__(self) -> None:
        shares = self.shares.values()
        if not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"shares {dict(self.shares)} must be above 0 and add up to 1")

    @property
    def names(self) -> list[str]:
        """Of its speakers."""
        return list(self.shares)

    @property
    def label(self) -> str:
        """For names of files: the speaker, or the speakers with percentages."""
        if len(self.shares) == 1:
            return next(iter(self.shares))
        label = "_".join(f"{name}-{100 * share:.3g}" for name, share in self.shares.items())
        if len(label) > _LONGEST_LABEL:
            digest = hashlib.sha256(repr(sorted(self.shares.items())).encode())
            return f"mix-{digest.hexdigest()[:8]}"
        return label


@dataclass(frozen=True)
class SpeakerCurve:
    """A voice that changes over time. Between two moments the shares move in straight lines;
    before the first and after the last the nearest one holds.

    Raises:
        ValueError: there is no moment, or they are negative, not finite or not in order.
    """

    times_s: Sequence[float]
    """From the beginning of the recording, at least 0, none earlier than the one before it. Two
    equal ones make a jump."""
    mixes: Sequence[SpeakerMix]
    """One for each time."""
    label: str
    """For names of files."""

    def __post_init__(self) -> None:
        times_s = list(self.times_s)
        in_range = all(0 <= time_s < math.inf for time_s in times_s)
        if not times_s or not in_range or times_s != sorted(times_s):
            raise ValueError(f"times_s {times_s} must be at least one, from 0 on and in order")
        if len(self.mixes) != len(times_s):
            raise ValueError(f"{len(self.mixes)} mixes do not go with {len(times_s)} times")

    @property
    def names(self) -> list[str]:
        """Of its speakers, each once."""
        return list(dict.fromkeys(name for mix in self.mixes for name in mix.shares))


Voice = SpeakerMix | SpeakerCurve


def resolve_voice(speaker: str | Voice | None, speakers: Sequence[str]) -> Voice:
    """What a user asks for, as a voice that a model has.

    Args:
        speaker: a name, a mix as of `parse_mix`, a voice, or None for the only one that there is.
        speakers: the model's speaker table; "" is the place of a speaker that was removed.

    Raises:
        UserError: no such speaker, no mix, or none named where there are several.
    """
    if isinstance(speaker, str):
        return parse_mix(speaker, speakers)
    known = _names(speakers)
    if speaker is None:
        if len(known) == 1:
            return SpeakerMix({known[0]: 1.0})
        raise UserError(
            f"speaker is not set, and this model knows {len(known)}: choose one of "
            f"{', '.join(known)}, or mix them ({_example(known)})."
        )
    for name in speaker.names:
        if name not in known:
            raise UserError(f"speaker={unknown_speaker(name, speakers)}")
    return speaker


def parse_mix(text: str, speakers: Sequence[str]) -> SpeakerMix:
    """A name, or names with shares: "anna:0.7,bert:0.3".

    The shares are relative: 7 to 3 is the same as 0.7 to 0.3. What is the name of a speaker as a
    whole is that speaker, whatever characters it has.

    Args:
        text: as typed.
        speakers: the model's speaker table.

    Raises:
        UserErrors: it names none or others than the model's speakers, or one twice, or the shares
            are no numbers, negative, or all zero. `faults` holds all that is wrong.
        UserError: it is a single name, and unknown.
    """
    if text in _names(speakers):
        return SpeakerMix({text: 1.0})
    if text.strip() and not {":", ","} & set(text):
        raise UserError(f"speaker={unknown_speaker(text, speakers)}")
    pairs, faults = [], []
    for part in text.split(","):
        name, colon, share = part.strip().rpartition(":")
        if colon:
            pairs.append((name.strip(), share.strip()))
        elif part.strip():
            faults.append(f"{part.strip()} has no share; write {part.strip()}:0.5.")
        else:
            faults.append("a name is missing.")
    mix, more = mix_of(pairs, speakers)
    if faults or mix is None:
        heading = f"speaker={text} is no mix like {_example(_names(speakers))}:"
        raise UserErrors(heading, faults + more)
    return mix


def mix_of(
    pairs: Sequence[tuple[str, str]], speakers: Sequence[str]
) -> tuple[SpeakerMix | None, list[str]]:
    """A mix out of names and shares as they were typed; the shares are scaled to add up to 1.

    Returns:
        The mix, None where something is wrong with it, and all that is wrong.
    """
    faults: list[str] = []
    shares: dict[str, float] = {}
    for name, text in pairs:
        if name not in _names(speakers):
            faults.append(unknown_speaker(name, speakers))
        elif name in shares:
            faults.append(f"{name} is named twice; give one share.")
        try:
            share = float(text)
        except ValueError:
            share = math.nan
        if not 0 <= share < math.inf:
            faults.append(
                f"the share of {name} is {text or 'missing'}; it must be a number from 0."
            )
        shares[name] = share
    total = sum(shares.values())
    if not faults and not 0 < total < math.inf:
        faults.append(f"the shares add up to {total:g}; at least one must be above 0.")
    if faults:
        return None, faults
    return SpeakerMix({name: share / total for name, share in shares.items() if share > 0}), []


def unknown_speaker(name: str, speakers: Sequence[str]) -> str:
    """What to say of a name that a model does not know, beginning with the name."""
    known = _names(speakers)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{name} is not in this model; it knows: {', '.join(known)}.{hint}"


def speaker_input(
    voice: Voice,
    speakers: Sequence[str],
    table: Tensor,
    *,
    frames: int,
    frame_rate_hz: float,
    interpolation: Interpolation = "linear",
) -> Tensor:
    """What `svc.models.conditioner.Conditioning.speaker` takes.

    Args:
        voice: of speakers that the table has.
        speakers: S names, in the order of the table.
        table: [S, C] embeddings; only a spherical mixture looks at them.
        frames: N of the recording.
        frame_rate_hz: of its frames. A frame hears the mix of the moment in its middle.
        interpolation: "linear" weights embeddings by their shares; "spherical" keeps their
            length, see `svc.inference.spherical_mean`.

    Returns:
        [1] int64 for one speaker alone, [1, S] float32 for a fixed mix, else [1, N, S] float32.

    Raises:
        UserError: there is no such interpolation.
    """
    check_interpolation(interpolation)
    shares = _shares_over_time(voice, speakers, frames, frame_rate_hz)
    if (shares == shares[:1]).all():
        shares = shares[:1]
        if shares.max() == 1:
            return shares.argmax(1)
    if interpolation == "spherical":
        shares = spherical_mean_weights(shares, table.detach().cpu())
    weights = shares.float()
    return weights if len(weights) == 1 else weights[None]


def check_interpolation(interpolation: str) -> None:
    """Whether there is such a way between voices.

    Raises:
        UserError: there is not.
    """
    if interpolation not in get_args(Interpolation):
        raise UserError(
            f"speaker_interpolation={interpolation}: choose one of "
            f"{', '.join(get_args(Interpolation))}."
        )


def _shares_over_time(
    voice: Voice, speakers: Sequence[str], frames: int, frame_rate_hz: float
) -> Tensor:
    """[N, S] float64, or [1, S] for a fixed mix."""
    if isinstance(voice, SpeakerMix):
        return _row(voice, speakers)[None]
    rows = torch.stack([_row(mix, speakers) for mix in voice.mixes])
    times_s = torch.tensor(voice.times_s, dtype=torch.float64)
    middles_s = (torch.arange(frames, dtype=torch.float64) + 0.5) / frame_rate_hz
    following = torch.searchsorted(times_s, middles_s, right=True)
    left, right = (following - 1).clamp(min=0), following.clamp(max=len(times_s) - 1)
    span_s = times_s[right] - times_s[left]
    position = torch.where(span_s > 0, (middles_s - times_s[left]) / span_s, 0.0)
    return torch.lerp(rows[left], rows[right], position[:, None])


def _row(mix: SpeakerMix, speakers: Sequence[str]) -> Tensor:
    """[S] float64."""
    return torch.tensor([mix.shares.get(name, 0.0) for name in speakers], dtype=torch.float64)


def _names(speakers: Sequence[str]) -> list[str]:
    """Those that can be asked for: the name of a removed speaker is empty."""
    return [name for name in speakers if name]


def _example(known: Sequence[str]) -> str:
    first, second = known[:2] if len(known) > 1 else ("NAME", "NAME")
    return f"{first}:0.7,{second}:0.3"
