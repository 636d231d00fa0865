"""`svc-train resume=…` with a dataset that has changed, and of runs that older versions began."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from cli.begun_runs import LAST, SMALL, begun, half, words
from command_line import Terminal
from store_material import write_voice
from training.test_resume import assert_same, state

__all__ = ["begun", "half"]

FORMAT_1 = Path(__file__).parents[1] / "checkpoints" / "files" / "training_format_1.ckpt"


@pytest.fixture
def own(half: Path, begun: Path, terminal: Terminal) -> Callable[..., tuple[str, ...]]:
    """What to type for the same run with recordings that may change."""
    shutil.copytree(begun / "voices", terminal.folder / "voices")
    record = yaml.safe_load((half / "run.yaml").read_text())
    record["dataset"]["path"] = str(terminal.folder / "voices")
    (half / "run.yaml").write_text(yaml.safe_dump(record))
    (store,) = (terminal.folder / "data" / "prepared").iterdir()
    fixed = (f"paths.store_dir={store}", "dataset.path=voices", *SMALL)

    def typed(*more: str) -> tuple[str, ...]:
        return (*fixed, *more)

    return typed


def prepare(terminal: Terminal, typed: tuple[str, ...]) -> None:
    groups = ("paths", "dataset", "content", "preparation")
    words = [word for word in typed if word.startswith(groups)]
    terminal("svc-preprocess", *words)


@pytest.mark.slow
def test_a_changed_dataset_has_to_be_allowed(
    own: Callable[..., tuple[str, ...]], half: Path, terminal: Terminal
) -> None:
    (half / "dataset.json").rename("dataset.json")
    terminal("svc-train", *own("trainer.max_steps=3"), "resume=auto")
    assert (half / "dataset.json").read_bytes() == Path("dataset.json").read_bytes()
    write_voice(terminal.folder / "voices" / "anna" / "new.wav", 3.5, 7)
    write_voice(terminal.folder / "voices" / "bert" / "song.wav", 4.5, 8)
    prepare(terminal, own())
    message = terminal.refused("svc-train", *own("trainer.max_steps=4"), "resume=auto")
    for part in (
        "slices: 2 → 3",
        "minutes: 0.1 → 0.2",
        "recordings added: 1 (anna/new.wav)",
        "recordings changed: 1 (bert/song.wav)",
        "resume.allow_changes=true",
    ):
        assert part in message
    # The checkpoint tells as well, in fewer words.
    record = (half / "dataset.json").read_bytes()
    (half / "dataset.json").unlink()
    message = terminal.refused("svc-train", *own("trainer.max_steps=4"), "resume=auto")
    assert "slices: 2 → 3" in message
    assert "anna/new.wav" not in message
    (half / "dataset.json").write_bytes(record)

    allowed = ("resume=auto", "resume.allow_changes=true")
    said = terminal("svc-train", *own("trainer.max_steps=4"), *allowed)
    assert "Going on with another dataset: slices: 2 → 3" in said.err
    assert "Done after 4 steps" in said.err
    assert (
        "Done after 5 steps"
        in terminal("svc-train", *own("trainer.max_steps=5"), "resume=auto").err
    )


@pytest.mark.slow
def test_speakers_keep_their_places_and_new_ones_are_refused(
    own: Callable[..., tuple[str, ...]], half: Path, terminal: Terminal
) -> None:
    shutil.rmtree(terminal.folder / "voices" / "anna")
    prepare(terminal, own())
    allowed = ("resume=auto", "resume.allow_changes=true", "optim.weight_decay=0")
    table = "generator.conditioner.speaker.weight"
    before = torch.load(half / LAST, weights_only=True)["state_dict"][table]
    said = terminal("svc-train", *own("trainer.max_steps=3"), *allowed)
    assert "speakers: anna, bert → bert" in said.err
    saved = torch.load(half / LAST, weights_only=True)
    assert saved["svc"]["facts"]["speakers"] == ["anna", "bert"]
    moved = (saved["state_dict"][table] - before).abs().sum(1)
    assert moved[1] > 0
    write_voice(terminal.folder / "voices" / "carl" / "song.wav", 3.5, 3)
    prepare(terminal, own())
    message = terminal.refused("svc-train", *own("trainer.max_steps=4"), *allowed)
    assert "speakers that the run" in message
    assert "carl; its table is anna, bert" in message
    assert f"pretrained={half / LAST} finetune.speakers=add" in message


def test_runs_from_before_datasets_were_recorded_go_on(
    half: Path, begun: Path, terminal: Terminal
) -> None:
    (half / "dataset.json").unlink()
    checkpoint = torch.load(half / LAST, weights_only=True)
    del checkpoint["svc"]["facts"]["dataset"]
    torch.save(checkpoint, half / LAST)
    record = yaml.safe_load((half / "run.yaml").read_text())
    record["resume"] = None
    (half / "run.yaml").write_text(yaml.safe_dump(record))
    said = terminal("svc-train", *words(begun, "trainer.max_steps=4"), "resume=auto")
    assert "Done after 4 steps" in said.err
    assert "arning" not in said.err
    assert (half / "dataset.json").is_file()
    assert_same(state(half / LAST)["state_dict"], state(begun / "whole" / LAST)["state_dict"])


@pytest.mark.slow
def test_a_checkpoint_of_format_1_goes_on(terminal: Terminal) -> None:
    """Its run knew nothing of fine-tuning, accumulation, alarms, licences or datasets."""
    run = terminal.folder / "outputs" / "demo" / "old"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copyfile(FORMAT_1, run / LAST)
    old = torch.load(FORMAT_1, weights_only=True)
    config = old["svc"]["facts"]["config"]
    config["dataset"]["path"] = str(terminal.folder / "data" / "demo")
    (run / "run.yaml").write_text(yaml.safe_dump(config))
    settings = (
        *("experiment=demo", "dataset.singers=2", "dataset.minutes_per_singer=0.1", "debug=fast"),
        *(
            word
            for word in SMALL
            if word.startswith(("arch.gen", "arch.discr", "~arch", "vocoder"))
        ),
        *("content.coefficients=8", "vocoder.resblock_dilations=[[1]]"),
        *("arch.discriminator.periods.periods=[2]", "trainer.max_steps=4"),
    )
    message = terminal.refused("svc-train", *settings, "optim.lr=0.1", f"resume={run}")
    assert message.count("\n  - ") == 1
    assert "optim.lr: 0.001 → 0.1" in message
    said = terminal("svc-train", *settings, "resume=auto")
    assert "Done after 4 steps" in said.err
    assert "arning" not in said.err
    new = torch.load(run / LAST, weights_only=True)
    assert new["lr_schedulers"][0]["last_epoch"] == 4
    assert new["lr_schedulers"][0]["_last_lr"] == [pytest.approx(1e-3 * 0.3 ** (4 / 1000))]
    steps = {int(weight["step"]) for weight in new["optimizer_states"][0]["state"].values()}
    assert steps == {4}
    assert new["SvcDataModule"]["batches_seen"] == 4
    facts = new["svc"]["facts"]
    assert (facts["format_version"], facts["parents"], facts["licence"]) == (2, [], None)
    assert facts["dataset"]["slices"] == 2


def test_a_checkpoint_without_its_run_is_refused_with_what_to_do(terminal: Terminal) -> None:
    shutil.copyfile(FORMAT_1, "alone.ckpt")
    message = terminal.refused("svc-train", *words(terminal.folder), "resume=alone.ckpt")
    assert "is not the folder of a run (it holds no readable run.yaml)" in message
    assert "pretrained=alone.ckpt" in message
