import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from svc.errors import UserError
from svc.evaluation import conversion_comparison
from svc.evaluation.conversion_comparison import ConversionComparison
from tiny_checkpoint import checkpoint

__all__ = ["checkpoint"]

SINGERS = ("alma_alto", "bruno_bass", "theo_tenor")


@pytest.fixture
def _one_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion_comparison, "PAIRS", (("alma_alto", "theo_tenor"),))


@pytest.mark.slow
@pytest.mark.usefixtures("_one_pair")
def test_models_are_measured_side_by_side(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    paths = {arch: str(checkpoint(arch, speakers=SINGERS)) for arch in ("hifisinger", "diffsvc")}
    said = ConversionComparison(paths, steps=2).run(tmp_path)
    with (tmp_path / "conversion.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(paths)
    assert rows["diffsvc"]["kind"] == "DiffSvc"
    # The vocoder inside both is the same and is not counted.
    assert float(rows["diffsvc"]["parameters_million"]) < 0.2
    assert rows["hifisinger"]["mcd_source_db"] == rows["diffsvc"]["mcd_source_db"]
    assert rows["hifisinger"]["mcd_converted_db"] != rows["diffsvc"]["mcd_converted_db"]
    assert rows["hifisinger"]["valid_mel_l1"] == ""  # there was no store
    assert (tmp_path / "mels.png").stat().st_size > 10_000
    models = json.loads((tmp_path / "conversion.json").read_text())["models"]
    assert [model["name"] for model in models] == list(paths)
    assert "| hifisinger" in said


def test_models_of_other_voices_are_refused(
    checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    path = checkpoint("diffsvc", speakers=("anna", "theo_tenor"))
    with pytest.raises(UserError, match="does not know the demo's singers alma_alto, bruno_bass"):
        ConversionComparison({"mine": str(path)}).run(tmp_path)


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(UserError, match=r"task\.checkpoints is empty"):
        ConversionComparison({})
