"""Small runs of `svc-train` to go on with."""

import logging
import shutil
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from command_line import Terminal
from store_material import write_voice
from svc.cli.train import main

LAST = Path("checkpoints") / "last.ckpt"
SMALL = (
    *("content=mfcc", "arch=hifisinger_tiny", "trainer=cpu", "debug=fast", "~callbacks.samples"),
    *("data.crop_frames=16", "preparation.valid_files=0", "preparation.workers=1"),
    *("arch.generator.conditioner.channels=8", "arch.generator.backbone.channels=8"),
    *("arch.generator.backbone.layers=2", "arch.generator.backbone.out_channels=8"),
    *("vocoder.initial_channels=32", "arch.discriminator.periods.channels=[2,2]"),
    *("~arch.discriminator.scales", "arch.adversarial.start_step=0"),
)


def words(folder: Path, *more: str) -> tuple[str, ...]:
    return (f"dataset.path={folder / 'voices'}", *SMALL, *more)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings, what was prepared of them, and runs of two and of four updates."""
    folder = tmp_path_factory.mktemp("begun")
    for number, name in enumerate(("anna", "bert")):
        write_voice(folder / "voices" / name / "song.wav", 3.5, number)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("SVC_DATA_DIR", "SVC_OUTPUT_DIR"):
            patch.delenv(name, raising=False)
        for run, steps in (("outputs/train/half", 2), ("whole", 4)):
            fixed = (f"hydra.run.dir={run}", f"trainer.max_steps={steps}")
            patch.setattr(sys, "argv", ["svc-train", *words(folder, *fixed)])
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 0
    root.handlers[:] = handlers
    root.setLevel(level)
    GlobalHydra.instance().clear()
    return folder


@pytest.fixture
def half(begun: Path, terminal: Terminal) -> Path:
    """The run of two updates, below the terminal's folder."""
    shutil.copytree(begun / "data", terminal.folder / "data")
    shutil.copytree(begun / "outputs", terminal.folder / "outputs")
    return Path("outputs") / "train" / "half"
