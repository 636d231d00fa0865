"""What a user types, and what is said where it cannot work."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from command_line import Terminal

COMMANDS = (
    *("svc-preprocess", "svc-train", "svc-infer", "svc-download", "svc-eval"),
    *("svc-doctor", "svc-export", "svc-convert-checkpoint"),
)
DEMO = ("experiment=demo", "trainer=cpu")
TINY_DEMO = (
    *DEMO,
    "debug=fast",
    "dataset.minutes_per_singer=0.3",
    "dataset.singers=2",
)

# Runs a command twice in a fresh interpreter and tells which heavy packages came in by it.
LIGHT = """
import sys
from importlib import import_module
main = import_module(f"svc.cli.{sys.argv[1]}").main
for argument in (["--help"], ["--cfg", "job"]):
    sys.argv = [sys.argv[0], *argument]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, ended.code
heavy = {"torch", "lightning", "matplotlib", "scipy", "pydantic", "wandb", "faster_whisper"}
print("HEAVY:", sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_cfg_are_there_and_import_nothing_heavy(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, command.removeprefix("svc-").replace("-", "_")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"\n  {command} ") >= 3  # examples
    assert ("Groups and their options" in done.stdout) == (command == "svc-train")
    assert ("trainer" in done.stdout) == (command == "svc-train")
    assert "More: docs/" in done.stdout  # the help's last line
    assert "HEAVY: []" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(tmp_path: Path) -> None:
    """As in `svc-infer --help | head -1`."""
    script = "from svc.cli.infer import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate()
    assert said == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["sead=1"], ["sead is not a setting", "did you mean seed?"]),
        (["optim.lrr=1"], ["optim.lrr", "did you mean optim.lr?"]),
        (["optim.learning_rate=1"], ["optim has lr, betas, weight_decay", "+optim.learning_rate="]),
        (["dataset.singer=2", "experiment=demo"], ["did you mean dataset.singers?"]),
        (["seed=abc"], ["seed=abc", "Integer"]),
        (["trainer=t5"], ["trainer/t5", "t4_fp16", "cpu_bf16"]),
        (["experiment=nothing"], ["experiment/nothing", "demo"]),
        (["seed"], ["seed"]),
        (["scheduler=null"], ["must be a string", "~scheduler"]),
        (["-m", "--cfg", "job", "seed=1,2"], ["Only one of", "Leave out -m"]),
        (["logger.wandb.project=x"], ["not a setting of the options chosen", "logger=wandb"]),
        (["arch.sampled_batches=1"], ["it comes with arch=diffsvc"]),
        (["+experiment=demo"], ["Leave out the plus of +experiment=demo"]),
        (["optim.lr = 1e-3"], ["name=value, without spaces"]),
        (["content"], ["Settings are given as name=value"]),
        (["lr=1e-4"], ["lr is not a setting; did you mean optim.lr?"]),
        (["optim=1e-4"], ["optim is a group", "options: adamw", "optim.NAME=VALUE"]),
        (["--lr", "1e-4"], ["--lr: settings are given without dashes", "lr=VALUE"]),
        (["--batch-size=4"], ["--batch-size=4: settings", "batch_size=VALUE"]),
        (["~trainer"], ["~trainer: this command cannot do without trainer"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_composed_is_named(
    terminal: Terminal, arguments: list[str], parts: list[str]
) -> None:
    message = terminal.refused("svc-train", *arguments)
    for part in parts:
        assert part in message, message
    assert list(terminal.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["trainer=cpu"], ["dataset.path is not set", "dataset=demo"]),
        (["trainer=cpu", "dataset.path="], ["dataset.path is not set", "dataset=demo"]),
        (["trainer=cpu", "dataset.path=null"], ["dataset.path is not set", "dataset=demo"]),
        (
            ["trainer=cpu", "dataset=demo", "content=hubert_soft", "content.offline=true"],
            ["hubert-soft-0d54a1f4.pt", "content=whisper", "content=mfcc"],
        ),
        ([*DEMO, "dataset.singers=two"], ["dataset.singers=two", "integer"]),
        ([*DEMO, "optim.lr=fast"], ["optim.lr=fast", "number"]),
        ([*DEMO, "+optim.learning_rate=1"], ["optim.learning_rate is not a setting of torch"]),
        ([*DEMO, "+callbacks.mine.x=1"], ["callbacks.mine has no `_target_`", "~callbacks.mine"]),
        (
            [*DEMO, "audio.mel_bins=80", "vocoder.mel_bins=128", "data.batch_size=some"],
            ["vocoder.mel_bins=128 must equal audio.mel_bins=80", "data.batch_size=some"],
        ),
        (
            [*DEMO, "resume=auto"],
            ["resume=auto: no run below outputs has this configuration", "leave resume out"],
        ),
        ([*DEMO, "resume=no/such/run"], ["resume=no/such/run", "resume=auto"]),
        (
            [*DEMO, "trainer.max_steps=0", "data.batch_size=0", "optim.lr=-1"],
            ["trainer.max_steps=0", "data.batch_size=0", "optim.lr=-1 must be at least 0"],
        ),
        ([*DEMO, "optim.betas=0.9"], ["optim.betas=0.9 is not valid"]),
        ([*DEMO, "optim.betas=[0.9,2]"], ["torch.optim.AdamW", "optim.betas=[0.9, 2]", "2"]),
        ([*DEMO, "scheduler.gamma=2"], ["scheduler.gamma=2", "0 < gamma <= 1"]),
        ([*DEMO, "arch.generator=null"], ["arch.generator=null must not be null"]),
        ([*DEMO, "trainer.accelerator=tpu"], ["trainer.accelerator=tpu is not valid"]),
        (
            [*DEMO, "trainer.precision=16-mixed"],
            ["trainer=cpu trainer.precision=16-mixed cannot run here: fp16 is for GPUs"],
        ),
        ([*DEMO, "scheduler=warmup_cosine"], ["~scheduler.gamma takes it out"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_named_and_leaves_no_folder(
    terminal: Terminal, arguments: list[str], parts: list[str]
) -> None:
    message = terminal.refused("svc-train", *arguments)
    for part in parts:
        assert part in message, message
    assert list(terminal.folder.iterdir()) == []


def test_a_place_for_runs_that_cannot_be_one_is_named(terminal: Terminal) -> None:
    (terminal.folder / "file").write_text("in the way")
    message = terminal.refused("svc-train", *DEMO, "paths.output_dir=file")
    assert "The folder of the run cannot be made" in message
    assert "paths.output_dir=FOLDER" in message


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["checkpoint is not set", "input is not set", "input=FOLDER"]),
        (["checkpoint=", "input="], ["checkpoint is not set", "input is not set"]),
        (["checkpoint=no.ckpt", "input=no.wav"], ["no.ckpt"]),
        (["checkpoint=.", "input=no.wav"], ["checkpoint=.", "folder without a checkpoint"]),
        (["checkpoint=a.ckpt", "input=b.wav", "pitch_shift=high"], ["pitch_shift=high", "Float"]),
        (["checkpoint=a.ckpt", "input=b.wav", "pitchshift=1"], ["did you mean pitch_shift?"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_converted_is_named(
    terminal: Terminal, arguments: list[str], parts: list[str]
) -> None:
    message = terminal.refused("svc-infer", *arguments)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_a_folder_without_recordings_is_named(terminal: Terminal, folder: str) -> None:
    (terminal.folder / "empty").mkdir()
    message = terminal.refused("svc-preprocess", f"dataset.path={folder}", "content=mfcc")
    assert folder in message


def test_debug_shows_where_it_happened(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVC_DEBUG", "1")
    said = terminal.run("svc-train", "trainer=cpu")
    assert said.code == 2
    assert "Traceback" in said.err
    assert "dataset.path is not set" in said.err


def test_an_own_group_is_found_by_config_dir(terminal: Terminal) -> None:
    (terminal.folder / "mine" / "trainer").mkdir(parents=True)
    (terminal.folder / "mine" / "experiment").mkdir()
    (terminal.folder / "mine" / "trainer" / "old_laptop.yaml").write_text(
        "# @package _global_\ndefaults: [cpu]\ndata: {batch_size: 1}\n"
    )
    (terminal.folder / "mine" / "experiment" / "choir.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /dataset: demo\n  - override /content: mfcc\n"
        "  - override /trainer: old_laptop\n"
        "run_name: choir\noptim: {lr: 0.125}\n"
    )
    said = terminal("svc-train", "--config-dir", "mine", "experiment=choir", "--cfg", "job")
    for part in ("run_name: choir", "lr: 0.125", "batch_size: 1", "DemoSource"):
        assert part in said.out
    message = terminal.refused("svc-train", "--config-dir=mine", "trainer=no", "dataset=demo")
    assert "old_laptop" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_trainer_without_its_device_names_those_that_work(terminal: Terminal) -> None:
    (terminal.folder / "mine" / "trainer").mkdir(parents=True)
    (terminal.folder / "mine" / "trainer" / "old_laptop.yaml").write_text(
        "# @package _global_\ndefaults: [cpu]\ndata: {batch_size: 1}\n"
    )
    message = terminal.refused(
        "svc-train", "--config-dir=mine", "experiment=demo", "trainer=t4_fp16"
    )
    assert "trainer=t4_fp16 cannot run here: this machine has no CUDA device" in message
    assert message.rstrip().endswith(
        "Trainers that work on this machine: auto, cpu, cpu_bf16, debug, old_laptop"
    )


def test_automatic_trainer_leaves_the_last_word_to_what_comes_after_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trainer=auto` is replaced after composition; experiment and command line still win."""
    composed: list[dict[str, object]] = []

    def stop(plain: dict[str, object]) -> None:
        composed.append(plain)
        raise SystemExit(0)

    monkeypatch.setattr("svc.cli.resuming.run_to_continue", stop)
    terminal("svc-train", "experiment=demo", "trainer.max_steps=7")
    (plain,) = composed
    trainer, data = plain["trainer"], plain["data"]
    assert isinstance(trainer, dict)
    assert isinstance(data, dict)
    assert trainer["max_steps"] == 7  # the command line's, not the trainer's 100000
    assert trainer["validate_every_steps"] == 500  # the experiment's
    assert data["batch_size"] == 8  # the experiment's, not the trainer's 4 or 32


@pytest.mark.slow
def test_a_first_session_in_a_folder_with_a_name(terminal: Terminal) -> None:
    """Prepare, train, continue and convert recordings below a path that people really have."""
    terminal("svc-preprocess", "dataset=demo", "content=mfcc", *TINY_DEMO[3:])
    voices = terminal.folder / "Meine Stimme (live), größe"
    (terminal.folder / "data" / "demo").rename(voices)
    (voices / "demo.yaml").unlink()
    dataset = [f"dataset.path={voices}", "content=mfcc"]
    assert "prepared in" in terminal("svc-preprocess", *dataset).out
    settings = [*dataset, "arch=hifisinger_tiny", "trainer=cpu", "debug=fast"]
    said = terminal("svc-train", *settings)
    (run,) = terminal.folder.glob("outputs/train/*")
    here = f"outputs/train/{run.name}"
    assert re.search(
        r"Training arch=hifisinger_tiny \(1\.\d M parameters learn\) on cpu in fp32: "
        rf"2 updates of 2 crops of 0\.37 s\.\n\S* The run's folder: {here}\n",
        said.err,
    )
    assert re.search(rf"Done after 2 steps, valid_loss \d\.\d+: \S*{here}\n", said.err)
    assert f"svc-infer checkpoint={here} input=song.wav speaker=alma_alto" in said.err
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert (run / "samples" / "step_000002" / "0_mel.png").is_file()
    said = terminal("svc-train", *settings, "trainer.max_steps=3", "resume=auto")
    assert "Continuing from" in said.err
    assert re.search(
        r"Using the prepared dataset \S.*: \d+ slices, 0\.\d minutes of 2 sp", said.err
    )
    assert "updates 2 to 3 of 2 crops" in said.err
    assert "Done after 3 steps" in said.err

    message = terminal.refused("svc-train", *settings, f"resume={run}", "optim.lr=0.01")
    assert "optim.lr: 0.0002 → 0.01" in message

    song = voices / "bruno_bass" / "phrase_000.wav"
    convert = [f"checkpoint={run}", f"input={song}", "pitch_shift=-2.5"]
    assert "speaker" in terminal.refused("svc-infer", *convert)
    terminal("svc-infer", *convert, "speaker=alma_alto", "output=Lied (neu), größer.wav")
    assert (terminal.folder / "Lied (neu), größer.wav").stat().st_size == song.stat().st_size


@pytest.mark.slow
def test_a_sweep_runs_each_value_in_a_folder_of_its_own(terminal: Terminal) -> None:
    long_path = "/".join(["a_folder_with_quite_a_long_name"] * 8)  # names end at 255 characters
    terminal("svc-train", "-m", *TINY_DEMO, "optim.lr=0.001,0.002", f"dataset.path={long_path}")
    (sweep,) = terminal.folder.glob("outputs/multirun/*")
    of_all = ["leaderboard.csv", "leaderboard.html", "multirun.yaml"]
    assert sorted(path.name for path in sweep.iterdir()) == ["0", "1", *of_all]
    for job, lr in (("0", 0.001), ("1", 0.002)):
        assert f"optim.lr={lr}" in (sweep / job / ".hydra" / "overrides.yaml").read_text()
        assert (sweep / job / "checkpoints" / "last.ckpt").is_file()
        assert len(list(sweep.glob(f"{job}/metrics/*/metrics.csv"))) == 1


@pytest.mark.slow
def test_a_search_from_a_file_covers_its_grid(terminal: Terminal) -> None:
    terminal(
        "svc-train",
        *TINY_DEMO,
        "hparams_search=lr_grid",
        "hydra.sweeper.params={optim.lr:'1e-4',arch.weights.mel:'15.0,45.0'}",
        "trainer.max_steps=1",
    )
    overrides = [p.read_text() for p in terminal.folder.glob("outputs/*/*/*/.hydra/overrides.yaml")]
    assert sum("arch.weights.mel=15.0" in text for text in overrides) == 1
    assert sum("arch.weights.mel=45.0" in text for text in overrides) == 1
    assert all("optim.lr=0.0001" in text for text in overrides)
