"""Augmentation as a user asks for it."""

from pathlib import Path

import pytest
import yaml

from command_line import Terminal

TINY = (
    "dataset=demo",
    "dataset.minutes_per_singer=0.2",
    "dataset.singers=2",
    "content=mfcc",
    "paths.store_dir=store",
)


@pytest.mark.slow
def test_training_asks_for_the_variants_that_it_wants(terminal: Terminal, tmp_path: Path) -> None:
    run = ("arch=hifisinger_tiny", "trainer=cpu", "debug=fast", "trainer.max_steps=2", *TINY)
    terminal("svc-preprocess", *TINY)
    said = terminal.run("svc-train", *run, "augmentation=default")
    assert said.code == 2
    assert "no content variants are stored" in said.err
    assert "Run svc-preprocess with the settings of this run" in said.err
    said = terminal.run("svc-train", *run, "augmentation.online.perturbed_content.probability=0.5")
    assert said.code == 2
    assert "perturbed_content.probability=0.5" in said.err
    assert "augmentation=default" in said.err

    terminal("svc-preprocess", *TINY, "augmentation=default")
    assert list(tmp_path.glob("store/features/*/*.variants.npy"))
    settings = yaml.safe_load((tmp_path / "store" / "meta.yaml").read_text())["settings"]
    assert settings["perturbation"]["variants"] == 2
    assert "Done after 2 steps" in terminal("svc-train", *run, "augmentation=default").err
    assert list(tmp_path.glob("store/features/*/*.variants.npy"))


def test_mistakes_are_named(terminal: Terminal) -> None:
    said = terminal.run(
        "svc-train", *TINY, "trainer=cpu", "augmentation.online.key_shift.max_semitones=high"
    )
    assert said.code == 2
    assert "key_shift.max_semitones" in said.err
