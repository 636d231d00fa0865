"""What a run on two CPU processes leaves behind: every thing once, the same from both."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cli.test_processes import TESTS, TINY
from store_material import write_voice
from svc.checkpoints.model_file import read_model_file
from training.test_wandb_logger import history, tables

pytestmark = pytest.mark.slow

SPY = "+callbacks.spy={_target_: cli.spying.Spy, folder: spied}"
STEPS = 4
TUNED = (
    *("experiment=finetune_hifisinger", "dataset.path=voices", "content=mfcc", "trainer=cpu"),
    *("debug=fast", "trainer.max_steps=2", "preparation.valid_files=0", "data.crop_frames=16"),
    *("arch.discriminator.periods.channels=[2,2]", "~arch.discriminator.scales"),
    *("trainer.devices=2", "hydra.run.dir=run", "optim.weight_decay=0.1", "~callbacks.samples"),
    SPY,
)
DENOISER = (
    *("experiment=demo_diffsvc", "debug=fast", "dataset.minutes_per_singer=0.1"),
    *("dataset.singers=2", "data.crop_frames=16", "arch.generator.conditioner.channels=8"),
    *("arch.generator.denoiser.backbone.channels=16", "arch.generator.denoiser.backbone.layers=2"),
    *("arch.sampled_batches=0", "~callbacks.samples", "hydra.run.dir=run"),
)


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """svc-train in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "svc.cli.train", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def done(folder: Path, *words: str, code: int = 0) -> str:
    """What svc-train said."""
    running = started(folder, *words)
    said, _ = running.communicate(timeout=300)
    assert running.returncode == code, said
    return said


def spied(folder: Path) -> list[dict[str, Any]]:
    """What each process saw and came to."""
    return [torch.load(folder / "spied" / f"process_{rank}.pt") for rank in range(2)]


def without_prefix(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those that have it."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run of four steps with two validations was made."""
    made = tmp_path_factory.mktemp("two")
    longer = ("dataset.minutes_per_singer=0.4", f"trainer.max_steps={STEPS}", "logger=wandb")
    done(made, *TINY, *longer, SPY, "hydra.run.dir=run")
    return made


def test_metrics_are_written_once(folder: Path) -> None:
    (file,) = folder.glob("run/metrics/*/metrics.csv")
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    for name, steps in (("train_loss_gen", [1, 2, 3, 4]), ("valid_loss", [2, 4])):
        assert [int(row["step"]) for row in rows if row[name]] == steps
    lines = history(folder / "run")
    assert len([line for line in lines if "train_loss_gen" in line]) == STEPS
    assert len([line for line in lines if "valid_loss" in line]) == 2
    shown = [tuple(row[:2]) for table in tables(folder / "run") for row in table["data"]]
    written = sorted(path.parent.name for path in folder.glob("run/samples/*/*_prediction.wav"))
    assert sorted(f"step_{step:06d}" for step, _ in shown) == written
    assert len(set(shown)) == len(shown)
    assert json.loads((folder / "run" / "summary.json").read_text())["steps"] == STEPS


def test_samples_and_checkpoints_are_written_once(folder: Path) -> None:
    for step in (2, 4):
        written = sorted(path.name for path in folder.glob(f"run/samples/step_{step:06d}/*"))
        kinds = ("mel.png", "prediction.wav", "target.wav")
        items = {name.partition("_")[0] for name in written}
        assert written == sorted(f"{item}_{kind}" for item in items for kind in kinds)
        assert "0" in items
    held = sorted(path.name for path in (folder / "run" / "checkpoints").iterdir())
    assert held == ["best.ckpt", "last.ckpt"]
    last = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == STEPS
    state = {name: value for name, value in last["state_dict"].items() if torch.is_tensor(value)}
    assert_equal(state, spied(folder)[1]["weights"])


def test_weights_and_averages_are_equal_and_the_average_trails(folder: Path) -> None:
    first, second = (found["weights"] for found in spied(folder))
    assert_equal(first, second)
    table = "network.conditioner.speaker.weight"
    trained = first[f"generator.{table.removeprefix('network.')}"]
    assert not torch.equal(first[f"ema.{table}"], trained)


def test_each_process_sees_as_many_crops_of_its_own(folder: Path) -> None:
    first, second = (found["crops"] for found in spied(folder))
    assert [len(batch) for batch in first] == [len(batch) for batch in second] == [2] * STEPS
    seen = [crop for batch in (*first, *second) for crop in batch]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("way", ["freeze", "lora"])
def test_fine_tuning(tmp_path: Path, checkpoint: Callable[..., Path], way: str) -> None:
    for number, name in enumerate(("bert", "carl")):
        write_voice(tmp_path / "voices" / name / "song.wav", 3.5, number)
    base = checkpoint("hifisinger")
    before = read_model_file(base).generator
    words = {
        "freeze": ("finetune.freeze=[decoder.*]",),
        "lora": ("lora.rank=2", "finetune.speakers=add"),
    }
    done(tmp_path, *TUNED, f"pretrained={base}", *words[way])
    first, second = (found["weights"] for found in spied(tmp_path))
    assert_equal(first, second)
    for prefix in ("generator.", "ema.network."):
        after = {
            re.sub(r"\.parametrizations\.weight\.original$", ".weight", name): value
            for name, value in without_prefix(prefix, first).items()
        }
        same = {name for name, value in before.items() if torch.equal(after[name], value)}
        table = "conditioner.speaker.weight"
        if way == "freeze":
            assert {name for name in before if name.startswith("decoder.")} <= same
            assert "backbone.blocks.0.dilated.weight" not in same
        else:
            assert same == before.keys() - {table}
            assert torch.equal(after[table][0], before[table][0])  # anna, of whom there is nothing
            assert not torch.equal(after[table][1], before[table][1])
            assert any(bool(value.any()) for name, value in after.items() if name.endswith(".up"))


def test_a_divided_denoiser_is_saved_when_asked_to_end_and_goes_on_alone(tmp_path: Path) -> None:
    divided = ("trainer.devices=2", "trainer.strategy=fsdp", "trainer.max_steps=1000000")
    # The workers get the signal, too.
    workers = ("data.workers=1", "data.cache=none", "callbacks.checkpoints.every_steps=5")
    running = started(tmp_path, *DENOISER, *divided, *workers)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    give_up = time.monotonic() + 240
    while not last.is_file() and running.poll() is None and time.monotonic() < give_up:
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 143, said
    steps = torch.load(last, weights_only=True)["global_step"]
    assert f"after {steps} steps; all of them are saved" in said

    goes_on = ("resume.checkpoint=run", "resume.allow_changes=true", "trainer.devices=1")
    said = done(tmp_path, *DENOISER, *goes_on, f"trainer.max_steps={steps + 2}")
    assert f"Done after {steps + 2} steps" in said


def test_a_divided_denoiser_goes_on_with_other_settings_and_without_a_voice(tmp_path: Path) -> None:
    """As an undivided one does."""
    for number, name in enumerate(("anna", "bert", "carl")):
        write_voice(tmp_path / "voices" / name / "song.wav", 3.5, number)
        if name != "bert":
            write_voice(tmp_path / "fewer" / name / "song.wav", 3.5, number)
    given = [word for word in DENOISER if not word.startswith("dataset.")]
    given += ["dataset=folder", "preparation.valid_files=0", "preparation.workers=1"]
    begun = ("dataset.path=voices", "trainer.max_steps=2", "trainer.devices=2")
    done(tmp_path, *given, *begun, "trainer.strategy=fsdp")
    changes = ("dataset.path=fewer", "optim.lr=0.01", "optim.weight_decay=0.5")
    changes = (*changes, "scheduler.warmup_steps=9", "trainer.max_steps=5", "trainer.devices=2")
    found = {}
    for strategy in ("fsdp", "data_parallel"):
        shutil.copytree(tmp_path / "run", tmp_path / strategy)
        allowed = (f"resume.checkpoint={strategy}", "resume.allow_changes=true")
        said = done(tmp_path, *given, *changes, *allowed, f"trainer.strategy={strategy}")
        assert "recordings removed: 1 (bert/song.wav)" in said
        last = tmp_path / strategy / "checkpoints" / "last.ckpt"
        found[strategy] = torch.load(last, weights_only=True)
    divided, whole = found["fsdp"], found["data_parallel"]
    (group,) = divided["optimizer_states"][0]["param_groups"]
    assert group["lr"] == pytest.approx(0.01 * (0.01 + 0.99 * 5 / 9))  # half way up
    assert (group["initial_lr"], group["weight_decay"]) == (0.01, 0.5)
    assert (
        divided["optimizer_states"][0]["param_groups"]
        == whole["optimizer_states"][0]["param_groups"]
    )
    assert divided["lr_schedulers"] == whole["lr_schedulers"]
    assert divided["svc"]["facts"]["speakers"] == ["anna", "bert", "carl"]
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(divided["state_dict"][name], value, atol=1e-5, rtol=1e-5)


def test_an_adversarial_architecture_is_not_divided(tmp_path: Path) -> None:
    said = done(tmp_path, *TINY, "trainer.strategy=fsdp", code=2)
    assert "trainer.strategy=fsdp divides a denoiser, which this architecture has not" in said
    assert "Traceback" not in said
    assert not (tmp_path / "data").exists()
