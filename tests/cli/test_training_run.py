"""What is decided before a training run begins."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from store_material import (
    SPEC,
    BlockContent,
    CountedEnergy,
    CrossingPitch,
    prepare_small,
    write_voice,
)
from svc.cli import training_run
from svc.cli.training_run import (
    checkpoint_to_continue,
    prepared_store,
    with_absolute_folders,
)
from svc.data.settings import ExtractionSettings
from svc.errors import UserErrors
from svc.training.runs import write_run_file


def config(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {"resume": "auto", "paths": {"output_dir": str(tmp_path)}, **changes}


def test_resume_that_finds_nothing_names_what_is_different_in_the_newest_run(
    tmp_path: Path,
) -> None:
    run = tmp_path / "voices" / "today"
    write_run_file(run, config(tmp_path, seed=1, optim={f"o{n}": n for n in range(6)}))
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(UserErrors, match="leave resume out") as caught:
        checkpoint_to_continue(config(tmp_path, seed=2, optim={}))
    assert f"The newest run, {run}, differs in:" in str(caught.value)
    assert "optim.o0: was 0, is 'absent'" in caught.value.faults
    assert len(caught.value.faults) == 6
    assert caught.value.faults[-1].startswith("and ")


def test_folders_are_recorded_from_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "whisper").mkdir()
    given = {"content": {"model": "whisper", "device": "cpu"}, "dataset": {"path": "voices"}}
    assert with_absolute_folders(given) == {
        "content": {"model": str(tmp_path / "whisper"), "device": "cpu"},
        "dataset": {"path": str(tmp_path / "voices")},
    }
    assert given["content"] == {"model": "whisper", "device": "cpu"}
    for content in ({"model": "tiny.en"}, {"model": None}, {"coefficients": 8}):
        same = {"content": content, "dataset": {}}
        assert with_absolute_folders(same) == same


def test_a_dataset_that_is_prepared_already_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        write_voice(tmp_path / "anna" / f"{number}.wav", 3.5, number)
    prepare_small(tmp_path, tmp_path / "store")
    wanted = ExtractionSettings.of(
        spec=SPEC,
        slicing={},
        content=BlockContent,
        pitch=partial(CrossingPitch, f0_min_hz=60.0),
        energy=CountedEnergy,
    )
    monkeypatch.setattr(training_run, "extraction_settings", lambda _: wanted)
    with caplog.at_level(logging.INFO):
        prepared_store({"paths": {"store_dir": str(tmp_path / "store")}}, SPEC)
    (said,) = caplog.messages
    assert said == (
        f"Using the prepared dataset {tmp_path / 'store'}: 2 slices, 0.1 minutes of 1 speaker. "
        f"Run svc-preprocess after changing the recordings."
    )
