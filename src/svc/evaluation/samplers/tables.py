"""Results of the comparison of samplers as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from svc.evaluation.samplers.measurement import Reference, SamplerRow
from svc.evaluation.tables import markdown_table, number

LIMIT_PERCENT = 1.0
"""What the default must stay below."""
LIMIT_EVALUATIONS = 20
"""With so many evaluations at most."""
WIDEST_RANGE_NEPERS = 60.0
"""Mels of recordings span about 15; models that take the level from the energy go below their floor
in silence, to about 30 in all."""


@dataclass(frozen=True)
class Judged:
    """The rows that the verdict is about; None where they were not measured."""

    default: SamplerRow | None
    """The default sampler with the steps that its settings come with."""
    predecessor: SamplerRow | None
    """What the default must not be behind."""


def markdown(
    rows: Sequence[SamplerRow],
    reference: Reference,
    judged: Judged,
    budgets: Sequence[int],
    circumstances: str,
) -> str:
    """Tables by sampler and number of evaluations, and what they say about the default."""
    exact = [row for row in rows if not row.random]
    drawn = [row for row in rows if row.random]
    parts = ["# Accuracy of samplers", circumstances, "\n".join(verdict(reference, judged))]
    if exact:
        parts += [
            "## Error by evaluations of the network, % of the mel's range",
            _by_budget(exact, budgets, "distance_percent", below=LIMIT_PERCENT),
            f"Mean absolute distance to the converged mel, which {reference.solver} gives from the "
            f"same noise; 1 % of the range is {reference.range_nepers / 100:.3f} nepers. Under a "
            f"number of evaluations stands the result with the most steps that need no more; the "
            f"last column has the fewest evaluations from which on the error stays below "
            f"{LIMIT_PERCENT:g} %. A dash: it diverged, or needs more.",
        ]
    if drawn:
        parts += [
            "## Samplers that draw noise in their steps, % of the mel's range",
            _of_random(drawn),
            f"They do not converge to one mel but to a distribution of mels, so their distance to "
            f"the converged mel is no error: mels of two independent draws are "
            f"{number(reference.draw_percent, '.3g')} % apart. The distance of the distributions "
            f"compares the values of each mel bin sorted over all frames (Wasserstein-1), and is "
            f"{number(reference.draw_distribution_percent, '.3g')} % for two draws of the "
            f"converged solution itself.",
        ]
    parts += [
        "## Seconds of sampling per second of audio",
        _by_budget(rows, budgets, "seconds_per_second"),
    ]
    return "\n\n".join(parts) + "\n"


def verdict(reference: Reference, judged: Judged) -> list[str]:
    """How well the converged solution is known, and whether the default keeps its promise."""
    lines = [
        f"- Converged solution: {reference.solver}; {reference.other_solver} lies "
        f"{number(reference.gap_percent, '.2g')} % of the mel's range away. Smaller errors mean "
        f"nothing.",
    ]
    if reference.range_nepers > WIDEST_RANGE_NEPERS:
        return [
            *lines,
            f"- The converged mels span {reference.range_nepers:.0f} nepers, recordings about 15: "
            f"the model has hardly been trained, and what follows says nothing about samplers.",
        ]
    default, predecessor = judged.default, judged.predecessor
    if default is None:
        return lines
    holds = default.distance_percent < LIMIT_PERCENT and default.evaluations <= LIMIT_EVALUATIONS
    lines.append(
        f"- The default, {_result(default)}. The demand, less than {LIMIT_PERCENT:g} % with at "
        f"most {LIMIT_EVALUATIONS} evaluations, {'holds' if holds else 'does NOT hold'}."
    )
    if predecessor is not None:
        nearer = default.distance_percent <= predecessor.distance_percent
        lines.append(
            f"- The predecessor's, {_result(predecessor)}. The default is "
            f"{'no farther' if nearer else 'FARTHER'} from the converged mel than that."
        )
    return lines


def fewest_evaluations(rows: Sequence[SamplerRow], below_percent: float) -> int | None:
    """The fewest evaluations of one sampler from which on all its errors stay below a limit."""
    found = None
    for row in sorted(rows, key=lambda row: -row.evaluations):
        if not row.distance_percent < below_percent:  # NaN is not below either
            break
        found = row.evaluations
    return found


def _by_budget(
    rows: Sequence[SamplerRow], budgets: Sequence[int], of: str, below: float | None = None
) -> str:
    lines = []
    for name in dict.fromkeys(row.sampler for row in rows):
        its = sorted((row for row in rows if row.sampler == name), key=lambda row: row.evaluations)
        cells = [name]
        for budget in budgets:
            within = [row for row in its if row.evaluations <= budget]
            cells.append(number(getattr(within[-1], of), ".3g") if within else "–")
        if below is not None:
            fewest = fewest_evaluations(its, below)
            cells.append("–" if fewest is None else str(fewest))
        lines.append(cells)
    header = ["sampler", *map(str, budgets)]
    return markdown_table([*header, *([] if below is None else [f"< {below:g} % from"])], lines)


def _of_random(rows: Sequence[SamplerRow]) -> str:
    header = ["sampler", "evaluations", "distance", "distance of distributions"]
    lines = [
        [
            row.sampler,
            str(row.evaluations),
            number(row.distance_percent, ".3g"),
            number(row.distribution_percent, ".3g"),
        ]
        for row in rows
    ]
    return markdown_table(header, lines)


def _result(row: SamplerRow) -> str:
    return (
        f"`{row.sampler}` with {row.evaluations} evaluations: "
        f"{number(row.distance_percent, '.3g')} % of the mel's range "
        f"({number(row.distance_nepers, '.3g')} nepers), "
        f"{number(row.seconds_per_second, '.3g')} s per second of audio"
    )
