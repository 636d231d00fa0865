"""Distances and verdicts whose values are known."""

import math
from dataclasses import replace

import pytest
import torch

from svc.evaluation.samplers.measurement import (
    Reference,
    SamplerRow,
    distance,
    distribution_distance,
)
from svc.evaluation.samplers.tables import Judged, fewest_evaluations, markdown, verdict

REFERENCE = Reference([], "UniPc with 1000", "DpmSolverPp with 1000", 0.01, 12.0, 9.0, 0.5)
DEFAULT = SamplerRow("unipc", 20, 20, False, 0.4, 0.048, 0.1, 0.2)
PREDECESSOR = replace(DEFAULT, sampler="published", steps=100, evaluations=100)


def test_the_order_of_frames_is_no_difference_of_distributions() -> None:
    mels = [torch.randn(8, 30, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    turned = [mel.flip(1) for mel in mels]
    assert distance(mels, turned) > 0.5
    assert distribution_distance(mels, turned) == 0
    louder = [mel + 0.25 for mel in turned]
    assert distribution_distance(mels, louder) == pytest.approx(0.25, abs=1e-6)
    assert distance(mels, [mel + 0.25 for mel in mels]) == pytest.approx(0.25, abs=1e-6)


def test_the_fewest_evaluations_are_those_after_the_last_error_above_the_limit() -> None:
    def rows(*errors: float) -> list[SamplerRow]:
        return [
            replace(DEFAULT, evaluations=10 * (i + 1), distance_percent=error)
            for i, error in enumerate(errors)
        ]

    assert fewest_evaluations(rows(3, 0.9, 2, 0.8, 0.1), 1.0) == 40
    assert fewest_evaluations(rows(0.5, 0.4), 1.0) == 10
    assert fewest_evaluations(rows(math.nan, 0.4), 1.0) == 20
    assert fewest_evaluations(rows(0.4, 1.0), 1.0) is None
    assert fewest_evaluations([], 1.0) is None


@pytest.mark.parametrize(
    ("default", "holds"),
    [
        (DEFAULT, True),
        (replace(DEFAULT, distance_percent=1.0), False),
        (replace(DEFAULT, distance_percent=math.nan), False),
        (replace(DEFAULT, evaluations=21), False),
    ],
)
def test_the_demand_on_the_default(default: SamplerRow, holds: bool) -> None:
    said = " ".join(verdict(REFERENCE, Judged(default, None)))
    assert ("does NOT hold" in said) != holds
    assert ("20 evaluations, holds" in said) == holds


def test_the_default_beside_the_predecessor() -> None:
    better = replace(PREDECESSOR, distance_percent=0.3)
    assert "no farther" in " ".join(verdict(REFERENCE, Judged(DEFAULT, PREDECESSOR)))
    assert "FARTHER" in " ".join(verdict(REFERENCE, Judged(DEFAULT, better)))
    assert len(verdict(REFERENCE, Judged(None, PREDECESSOR))) == 1


def test_nothing_is_promised_of_a_model_that_cannot_sing() -> None:
    said = verdict(replace(REFERENCE, range_nepers=6000.0), Judged(DEFAULT, PREDECESSOR))
    assert "hardly been trained" in said[-1]
    assert not any("holds" in line for line in said)


def test_what_draws_noise_has_a_table_of_its_own() -> None:
    random = replace(DEFAULT, sampler="ddpm", random=True, distance_percent=8.0)
    text = markdown([DEFAULT, random], REFERENCE, Judged(DEFAULT, None), [5, 20], "Here.")
    errors, apart = text.split("## Samplers that draw noise")
    assert "ddpm" not in errors
    assert "| ddpm " in apart
    (line,) = [line for line in errors.splitlines() if line.startswith("| unipc ")]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == ["unipc", "–", "0.4", "20"]
