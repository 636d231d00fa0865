"""Ways to a new voice: their figures are the right ones, and the material is what it says."""

import csv
from pathlib import Path

import matplotlib.image
import pytest
import soundfile
import torch

from svc.audio.spec import AudioSpec
from svc.data.demo.phrases import training_phrase
from svc.data.demo.singers import singer_by_name
from svc.errors import UserError
from svc.evaluation import finetuning
from svc.evaluation.finetuning import (
    HeldOutPhrases,
    Point,
    WayResult,
    write_recordings,
    write_results,
)


def way(name: str, *mcd_db: float) -> WayResult:
    """A way that was measured after 10, 20, 40, … updates of half a second each."""
    steps = [10 * 2**index for index in range(len(mcd_db))]
    points = [Point(step, step / 2, mcd) for step, mcd in zip(steps, mcd_db, strict=True)]
    return WayResult(name, "as it is", tuple(points), "safetensors", 4_200_000)


SCRATCH = way("from scratch", 8.0, 6.0, 4.0, 4.5)
QUICK = way("quick", 5.0, 4.5, 3.5)
NEVER = way("never", 7.0, 4.6, 4.7)


def test_the_table_says_when_each_way_was_where_scratch_ended(tmp_path: Path) -> None:
    said = write_results(tmp_path / "new", [SCRATCH, QUICK, NEVER], 9.0)
    with (tmp_path / "new" / "table.csv").open() as file:
        rows = {row["way"]: row for row in csv.DictReader(file)}
    assert {row["target_mcd_db"] for row in rows.values()} == {"4.5"}
    # Scratch was there before it ended; its last step does not count against the others.
    assert [rows[name]["steps_to_target"] for name in rows] == ["40", "20", ""]
    assert [rows[name]["cpu_s_to_target"] for name in rows] == ["20", "10", ""]
    assert [rows[name]["best_mcd_db"] for name in rows] == ["4", "3.5", "4.6"]
    assert [rows[name]["final_mcd_db"] for name in rows] == ["4.5", "3.5", "4.7"]
    lines = {line.split("|")[1].strip(): line for line in said.splitlines()}
    assert [cell.strip() for cell in lines["quick"].split("|")[2:-1]] == [
        "20", "10", "3.50", "40", "20", "safetensors", "4.20",
    ]  # fmt: skip
    assert "never" in lines["never"].split("|")[2]
    assert (tmp_path / "new" / "table.md").read_text() == said + "\n"


def test_every_point_is_kept_and_drawn(tmp_path: Path) -> None:
    write_results(tmp_path, [SCRATCH, QUICK], 9.0)
    with (tmp_path / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["way"], row["step"]) for row in rows] == [
        *(("from scratch", step) for step in ("10", "20", "40", "80")),
        *(("quick", step) for step in ("10", "20", "40")),
    ]
    one = matplotlib.image.imread(tmp_path / "curve.png")
    write_results(tmp_path, [SCRATCH, way("quick", 5.0, 4.5, 4.0)], 9.0)
    assert (one != matplotlib.image.imread(tmp_path / "curve.png")).any()


def test_the_recordings_are_those_of_one_singer(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    (folder / "old").mkdir(parents=True)
    assert write_recordings(folder, "theo_tenor", 15.0, seed=3) == 15.0
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.wav"))
    assert files == ["theo_tenor/phrase_000.wav", "theo_tenor/phrase_001.wav"]
    assert [path.name for path in tmp_path.iterdir()] == ["recordings"]
    assert [path.name for path in folder.iterdir()] == ["theo_tenor"]
    found, rate_hz = soundfile.read(folder / files[1], dtype="float32")
    assert len(found) / rate_hz == pytest.approx(7.5, abs=0.01)
    truth = training_phrase(3, 1, singer_by_name("theo_tenor"), phrase_s=(7.5, 7.5)).audio
    torch.testing.assert_close(torch.from_numpy(found), truth, rtol=0, atol=2**-15)


def test_phrases_come_from_all_other_singers_and_the_truth_is_their_goal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    phrases = HeldOutPhrases("alma_alto", 1, AudioSpec())
    sources = [pair.source_singer for pair in phrases.pairs]
    assert sources == ["bruno_bass", "theo_tenor", "sofia_soprano"]
    assert {pair.target_singer for pair in phrases.pairs} == {"alma_alto"}
    assert phrases.unconverted_mcd_db > 2
    monkeypatch.setattr(finetuning, "convert_pair", lambda _, pair: pair.truth)
    assert phrases.mcd_db(None) == 0.0  # type: ignore[arg-type]


def test_a_singer_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nobody"):
        write_recordings(tmp_path / "recordings", "nobody", 15.0)
