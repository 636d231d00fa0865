"""`data.batch_size=auto` and `data.cache=device` as they are typed."""

from pathlib import Path

import pytest
import yaml

from cli.test_processes import TINY, command
from command_line import Terminal

SMALL = [word for word in TINY if not word.startswith(("trainer.devices=", "hydra."))]
AUTO = [*SMALL, "batch_size=auto", "data.cache=device", "preflight.max_batch_size=3"]


@pytest.mark.slow
def test_a_batch_size_is_found_kept_and_refused(terminal: Terminal) -> None:
    said = terminal("svc-train", *AUTO, "paths.run_dir=outputs/demo/run").err
    assert "The training set lies in the memory of cpu" in said
    assert "data.batch_size=auto: 3 crops. A training step takes about" in said
    run = terminal.folder / "outputs/demo/run"
    assert yaml.safe_load((run / "run.yaml").read_text())["data"]["batch_size"] == "auto"
    (recorded,) = run.glob("metrics/*/hparams.yaml")
    assert yaml.unsafe_load(recorded.read_text())["data"]["batch_size"] == 3
    more = ["trainer.max_steps=3", "resume=auto", "preflight.max_batch_size=1"]
    said = terminal("svc-train", *AUTO, *more).err
    assert "trying growing batches" not in said
    assert "Done after 3 steps" in said

    before = sorted(terminal.folder.rglob("*"))
    huge = ["data.batch_size=10000000", "preflight.check=true"]
    message = terminal.refused("svc-train", *SMALL, *huge)
    assert "data.batch_size=10000000 does not fit. A training step takes about" in message
    assert "data.batch_size=auto" in message
    assert sorted(terminal.folder.rglob("*")) == before


@pytest.mark.slow
def test_processes_agree_on_a_batch_size(tmp_path: Path) -> None:
    done = command(tmp_path, "data.batch_size=auto", "preflight.max_batch_size=2")
    said, _ = done.communicate(timeout=300)
    assert done.returncode == 0, said
    assert said.count("data.batch_size=auto: 2 crops per device. A training step") == 1
    assert "Done after 2 steps" in said
