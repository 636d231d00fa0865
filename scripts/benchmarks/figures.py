"""How a section reports: plain figures with their targets, completed once the rates are known."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import MachineRates, three_ways

NORMALISED = "normalised cost"

Figure = dict[str, Any]
Section = dict[str, Any]
"""`settings` (what was measured, in words) and `figures`."""


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    repeats: int = 5
    """Timed runs, of which the best counts."""
    recordings: Path | None = None
    """A folder of real recordings for the section `preparation`."""
    whisper: Path | None = None
    """Folder of a Whisper model for the section `features`."""
    durations_s: Sequence[float] = (5.0, 20.0, 60.0)
    """Of the inputs of conversions."""
    feature_durations_s: Sequence[float] = (1.0, 20.0, 600.0)
    """Of the inputs of extractors."""
    audio_minutes: float = 4.0
    """Synthetic audio of the sections `crops` and `preparation`."""
    hours: float | None = None
    """Of real recordings that are prepared on all cores; None leaves that out."""
    steps_per_repeat: int = 10
    """Of the tiny model, whose steps are short."""


def figure(
    name: str,
    value: float,
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    **details: Any,
) -> Figure:
    """A figure as it is; `details` stand beside it in the JSON."""
    target = {"at_most": at_most, "at_least": at_least}
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        **{key: bound for key, bound in target.items() if bound is not None},
        **details,
    }


def timed(
    name: str,
    seconds: float,
    gflop_needed: float,
    precision: str,
    *,
    at_most: float | None = None,
    **details: Any,
) -> Figure:
    """A duration that `completed` turns into a normalised cost.

    Args:
        name: of the figure.
        seconds: the best wall time.
        gflop_needed: floating-point work that the result is said to need, in GFLOP.
        precision: `fp32` or `bf16`, the convolution rate to compare with.
        at_most: target of the normalised cost.
        details: anything else that is worth keeping; `gflop_computed`, the work that was counted,
            gives a second fraction of the rate.
    """
    work = {"gflop_needed": gflop_needed, "precision": precision}
    return figure(name, seconds, NORMALISED, at_most=at_most) | work | details


def completed(section: Section, before: MachineRates, after: MachineRates) -> Section:
    """The section with the rates of its time, and its durations given three ways.

    The better of the rates measured before and after stands for the machine: other work can only
    make it look slower than it is, and a slower machine would flatter the normalised cost.
    """
    rates = better_of(before, after)
    figures = [_completed(entry, rates) for entry in section["figures"]]
    measured = {"before": asdict(before), "after": asdict(after), "used": asdict(rates)}
    return {**section, "gflop_per_s": measured, "figures": figures}


def better_of(first: MachineRates, second: MachineRates) -> MachineRates:
    """The higher of both for every rate."""
    one, two = asdict(first), asdict(second)
    return MachineRates(**{name: max(one[name], two[name]) for name in one})


def _completed(entry: Figure, rates: MachineRates) -> Figure:
    if "gflop_per_s_used" in entry:
        rate = asdict(rates)[f"conv1d_{entry['precision']}"]
        return {**entry, "fraction_of_conv1d_rate": round(entry["gflop_per_s_used"] / rate, 4)}
    if "gflop_needed" not in entry:
        return entry
    seconds, precision = entry["value"], entry["precision"]
    ways = three_ways(seconds, entry["gflop_needed"], rates, precision)
    if "gflop_computed" in entry:
        computed = three_ways(seconds, entry["gflop_computed"], rates, precision)
        ways["computed_fraction_of_conv1d_rate"] = computed["fraction_of_conv1d_rate"]
    return {**entry, "value": ways["normalised_cost"], **ways}
