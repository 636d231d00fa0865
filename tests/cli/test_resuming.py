"""`svc-train resume=…`: what goes on, what has to be allowed, and what cannot be."""

import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cli.begun_runs import LAST, begun, half, words
from command_line import Terminal
from svc.cli.resuming import Continuation, run_to_continue
from svc.errors import UserErrors
from svc.training.runs import write_run_file
from training.test_resume import assert_same, state

__all__ = ["begun", "half"]

# How it is typed


@pytest.fixture
def files(terminal: Terminal) -> None:
    """Experiments that say what goes on, in the short form."""
    folder = terminal.folder / "mine" / "experiment"
    folder.mkdir(parents=True)
    for name, value in (("going_on", "auto"), ("elsewhere", "no/such/run")):
        (folder / f"{name}.yaml").write_text(f"# @package _global_\nresume: {value}\n")


@pytest.mark.parametrize(
    "typed",
    [
        ("resume=auto",),
        ("resume={run}",),
        ("resume='{run}'",),
        ("resume.checkpoint={run}/checkpoints/last.ckpt", "resume.allow_changes=false"),
        ("resume.allow_changes=true", "resume=auto"),
        ("resume={{checkpoint:auto}}",),
        ("++resume=auto",),
        ("experiment=going_on", "--config-dir=mine"),
        ("experiment=elsewhere", "resume=auto", "--config-dir=mine"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("files")
def test_every_form_names_the_run(
    typed: tuple[str, ...],
    half: Path,
    begun: Path,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Continuation | None] = []

    def stop(plain: dict[str, Any]) -> None:
        found.append(run_to_continue(plain))
        raise SystemExit(0)

    monkeypatch.setattr("svc.cli.resuming.run_to_continue", stop)
    terminal("svc-train", *words(begun), *(word.format(run=half) for word in typed))
    (run,) = found
    assert run is not None
    assert run.checkpoint == half / LAST
    assert run.run_dir == half
    assert run.allow_changes == ("resume.allow_changes=true" in typed)


def test_a_run_whose_name_has_to_be_quoted_is_found(
    half: Path, begun: Path, terminal: Terminal
) -> None:
    half.rename("mein Lauf (größer, 2)")
    said = terminal("svc-train", *words(begun), "resume=mein Lauf (größer, 2)")
    assert "Continuing from mein Lauf (größer, 2)/checkpoints/last.ckpt" in said.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_log_that_cannot_be_written_is_no_matter(
    half: Path, begun: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    full = "hydra.job_logging.handlers.file.filename=/dev/full"
    said = terminal("svc-train", *words(begun), full, "trainer.max_steps=3", f"resume={half}")
    assert "Done after 3 steps" in said.err
    assert "Logging error" not in said.err


def test_harmless_settings_may_differ_and_nothing_else_does(
    half: Path, begun: Path, terminal: Terminal
) -> None:
    harmless = (
        *("trainer.max_steps=4", "data.workers=1", "data.cache=ram", "trainer.log_every_steps=2"),
        *("logger=tensorboard", "~callbacks.progress", "run_name=other", "licence=CC0"),
        *("trainer.benchmark=true", "preparation.batch_s=60", "trainer.limit_val_batches=2"),
    )
    said = terminal("svc-train", *words(begun, *harmless), f"resume={half}")
    assert "Done after 4 steps" in said.err
    assert "other settings" not in said.err
    assert "arning" not in said.err
    one, other = state(half / LAST), state(begun / "whole" / LAST)
    for kept in (one, other):  # the record has the settings, which differ
        del kept["svc"]["facts"]
    assert_same(one, other)


def test_a_run_that_goes_on_has_one_folder_and_one_log(
    half: Path, begun: Path, terminal: Terminal
) -> None:
    runs = half.parent
    before = (half / "svc-train.log").read_text()
    said = terminal("svc-train", *words(begun, "trainer.max_steps=3"), "resume=auto")
    assert "Done after 3 steps" not in before
    assert list(runs.iterdir()) == [half]
    log = (half / "svc-train.log").read_text()
    assert log.startswith(before)
    assert log.count("Continuing from") == log.count("Done after 3 steps") == 1
    assert "nothing left to do" not in said.err
    again = terminal("svc-train", *words(begun, "trainer.max_steps=3"), "resume=auto").err
    assert "nothing left to do: it has made 3 updates. A larger trainer.max_steps" in again
    refused = terminal.refused("svc-train", *words(begun, "seed=2"), "resume=auto")
    assert f"resume={half}" in refused
    assert list(runs.iterdir()) == [half]


def test_what_runs_of_the_same_name_differ_in_is_told(
    half: Path, begun: Path, terminal: Terminal
) -> None:
    """Others may be newer."""
    other = terminal.folder / "outputs" / "other" / "newer"
    shutil.copytree(half, other)
    os.utime(other / LAST, (2e9, 2e9))
    refused = terminal.refused("svc-train", *words(begun, "seed=2"), "resume=auto")
    assert f"goes on with other settings by resume={half} " in refused


@pytest.mark.slow
def test_a_sweep_takes_it_too(half: Path, begun: Path, terminal: Terminal) -> None:
    terminal("svc-train", "-m", *words(begun, "trainer.max_steps=3"), "resume=auto")
    assert torch.load(half / LAST, weights_only=True)["global_step"] == 3


@pytest.mark.usefixtures("files")
def test_null_starts_anew_whatever_a_file_says(half: Path, begun: Path, terminal: Terminal) -> None:
    options = ("experiment=going_on", "resume=null", "hydra.run.dir=anew", "--config-dir=mine")
    said = terminal("svc-train", *words(begun), *options)
    assert "Continuing" not in said.err
    assert (terminal.folder / "anew" / LAST).is_file()


@pytest.mark.parametrize(
    ("typed", "part"),
    [
        ("resume.allow_changes=perhaps", "resume.allow_changes=perhaps must be true or false"),
        ("resume.checkpoint=[a,b]", "resume.checkpoint=['a', 'b'] must be null, auto or a path"),
        ("resume.allow=true", "resume.allow is not a setting; did you mean resume.allow_changes?"),
        ("+resume.more=1", "resume.more is not a setting; resume has checkpoint and allow_changes"),
    ],
)
def test_what_is_no_such_setting_is_named(typed: str, part: str, terminal: Terminal) -> None:
    assert part in terminal.refused("svc-train", *words(terminal.folder, typed))


@pytest.mark.usefixtures("files")
def test_a_file_that_says_it_in_short_has_no_room_for_more(terminal: Terminal) -> None:
    more = ("experiment=going_on", "resume.allow_changes=true", "--config-dir=mine")
    message = terminal.refused("svc-train", *words(terminal.folder, *more))
    assert "resume.allow_changes is not a setting here, because a file gives resume as" in message


# Settings


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        (["optim.lr=0.01"], ["optim.lr: 0.0002 → 0.01"]),
        (["seed=5"], ["seed: 0 → 5", "data.seed: 0 → 5", "arch.seed: 0 → 5"]),
        (["trainer=cpu_bf16", "data.batch_size=2"], ["trainer.precision: 32-true → bf16-mixed"]),
        (["scheduler=step"], ["scheduler.gamma: 0.999 → 0.5", "scheduler.every_steps: 1000 →"]),
        (["dataset.path=elsewhere"], ["dataset.path: ", "elsewhere"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_changed_settings_have_to_be_allowed(
    changed: list[str], lines: list[str], half: Path, begun: Path, terminal: Terminal
) -> None:
    before = (half / LAST).read_bytes(), (half / "run.yaml").read_bytes()
    message = terminal.refused("svc-train", *words(begun, *changed), f"resume={half}")
    for line in (*lines, "resume.allow_changes=true", "start anew"):
        assert line in message
    assert before == ((half / LAST).read_bytes(), (half / "run.yaml").read_bytes())


def test_auto_does_not_take_a_run_of_other_settings_but_names_it(
    half: Path, begun: Path, terminal: Terminal
) -> None:
    for more in ((), ("resume.allow_changes=true",)):
        message = terminal.refused(
            "svc-train", *words(begun, "optim.lr=0.01", "resume=auto", *more)
        )
        assert f"resume={half} resume.allow_changes=true; it differs in:" in message
        assert "optim.lr: 0.0002 → 0.01" in message


def test_auto_names_a_few_differences_and_counts_the_rest(tmp_path: Path) -> None:
    def config(**changes: Any) -> dict[str, Any]:
        places = {"paths": {"output_dir": str(tmp_path)}, "run_name": "voices"}
        return {"resume": "auto", **places, **changes}

    run = tmp_path / "voices" / "today"
    write_run_file(run, config(seed=1, optim={f"o{n}": n for n in range(6)}))
    (run / "checkpoints").mkdir()
    (run / LAST).touch()
    with pytest.raises(UserErrors, match="leave resume out") as caught:
        run_to_continue(config(seed=2, optim={}))
    assert "optim.o0: 0 → absent" in caught.value.faults
    assert len(caught.value.faults) == 6
    assert caught.value.faults[-1].startswith("and ")


@pytest.mark.slow
def test_allowed_settings_take_effect_and_are_recorded(
    half: Path, begun: Path, terminal: Terminal
) -> None:
    changes = ("optim.lr=0.01", "optim.weight_decay=0.5", "scheduler.gamma=0.5")
    changes = (*changes, "scheduler.every_steps=2", "data.batch_size=3", "trainer.max_steps=4")
    allowed = ("resume.allow_changes=true", f"resume={half}")
    said = terminal("svc-train", *words(begun, *changes), *allowed)
    assert "Going on with other settings: " in said.err
    assert "optim.lr: 0.0002 → 0.01" in said.err
    saved = torch.load(half / LAST, weights_only=True)
    for optimizer, schedule in zip(saved["optimizer_states"], saved["lr_schedulers"], strict=True):
        (group,) = optimizer["param_groups"]
        assert group["lr"] == pytest.approx(0.01 * 0.5 ** (4 / 2))
        assert (group["initial_lr"], group["weight_decay"]) == (0.01, 0.5)
        assert schedule["last_epoch"] == 4
    assert saved["svc"]["facts"]["config"]["optim"]["lr"] == 0.01
    again = terminal("svc-train", *words(begun, *changes, "trainer.max_steps=5"), "resume=auto")
    assert "Done after 5 steps" in again.err
    assert "optim.lr: 0.01 → 0.0002" in terminal.refused("svc-train", *words(begun), *allowed[1:])


@pytest.mark.slow
def test_a_change_holds_although_the_run_was_killed_before_it_saved(
    half: Path, begun: Path, terminal: Terminal
) -> None:
    """Its record has the new settings already, its checkpoint the old ones."""
    record = yaml.safe_load((half / "run.yaml").read_text())
    record["optim"]["lr"] = 0.01
    (half / "run.yaml").write_text(yaml.safe_dump(record))
    terminal("svc-train", *words(begun, "optim.lr=0.01", "trainer.max_steps=3"), "resume=auto")
    saved = torch.load(half / LAST, weights_only=True)
    assert saved["optimizer_states"][0]["param_groups"][0]["initial_lr"] == 0.01


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        (["optim._target_=torch.optim.Adam"], ["optim._target_: torch.optim.AdamW → torch.opt"]),
        (
            ["vocoder_weights=some.ckpt", "optim.lr=0.1"],
            ["vocoder_weights: null → ", "cannot change: it says what", "optim.lr: 0.0002 → 0.1"],
        ),
    ],
    ids=lambda value: value[0],
)
def test_what_could_not_take_effect_is_refused(
    changed: list[str], parts: list[str], half: Path, begun: Path, terminal: Terminal
) -> None:
    allowed = ("resume.allow_changes=true", f"resume={half}")
    message = terminal.refused("svc-train", *words(begun, *changed), *allowed)
    for part in (*parts, f"pretrained={half / LAST}", "cannot change"):
        assert part in message


def test_weights_of_other_shapes_are_refused_and_nothing_is_lost(
    half: Path, begun: Path, terminal: Terminal
) -> None:
    before = (half / LAST).read_bytes(), (half / "run.yaml").read_bytes()
    changed = ("arch.generator.backbone.layers=3", "arch.discriminator.periods.channels=[2,4]")
    allowed = ("resume.allow_changes=true", f"resume={half}")
    message = terminal.refused("svc-train", *words(begun, *changed), *allowed)
    assert "do not fit the networks of these settings" in message
    assert "arch.generator.backbone.layers" in message
    assert (
        "discriminator.periods.periods.0.layers.1.bias: [2] in the checkpoint, [4] now" in message
    )
    assert re.search(r"and \d+ more", message)
    assert before == ((half / LAST).read_bytes(), (half / "run.yaml").read_bytes())
